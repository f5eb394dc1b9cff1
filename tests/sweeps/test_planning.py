"""The runs of a sweep."""

import pytest
from small_sweeps import VARIANTS, planned

from hebm.config.experiment import Experiment
from hebm.errors import ConfigError


def names(runs):
    return [(run.name, run.needs) for run in runs]


def test_what_variants_share_is_trained_once_for_each_seed(tmp_path):
    assert names(planned(tmp_path)) == [
        ("small-joint-0", None),
        ("small-gaussian-0", "small-joint-0"),
        ("small-joint-1", None),
        ("small-gaussian-1", "small-joint-1"),
    ]


def test_the_arguments_of_a_run_make_its_experiment(tmp_path):
    for run in planned(tmp_path, VARIANTS + "train.prior.steps = 3\n[set]\nrun.keep = 3\n", ["data.flip=false"]):
        sets = run.arguments[5::2]
        assert run.arguments[:4] == ["run", str(tmp_path / "experiment.toml"), "--runs", str(tmp_path / "runs")]
        assert Experiment.load(run.base, sets) == run.experiment
        origin = None if run.needs is None else str(tmp_path / "runs" / run.needs)
        assert (run.experiment.name, run.experiment.seed) == (run.folder.path.name, run.seed)
        assert run.experiment.train.backbone_from == origin
        assert (run.experiment.run.keep, run.experiment.data.flip) == (3, False)


def test_the_base_files_own_run_is_added_where_no_variant_is_it(tmp_path):
    text = VARIANTS.replace("[variants.joint]", "[variants.long]\ntrain.prior.steps = 9\n")
    assert names(planned(tmp_path, text.replace("[0, 1]", "[0]"))) == [
        ("small-backbone-0", None),
        ("small-long-0", "small-backbone-0"),
        ("small-gaussian-0", "small-backbone-0"),
    ]
    with pytest.raises(ConfigError, match=r"variants\.backbone: the base file's own run has this name"):
        planned(tmp_path, text.replace("variants.long", "variants.backbone"))


@pytest.mark.parametrize(
    "change",
    [
        "backbone.z_dims = [2, 4]",
        "train.backbone.steps = 7",
        'data.binarize = "off"',
        'train.backbone_from = "runs/other"',
    ],
)
def test_a_variant_that_changes_the_backbone_does_not_take_the_shared_one(tmp_path, change):
    runs = planned(tmp_path, f"{VARIANTS}{change}\n")
    assert {run.needs for run in runs} == {None}


def test_a_scheme_that_cannot_take_a_backbone_over_shares_none(tmp_path):
    assert {run.needs for run in planned(tmp_path, scheme="joint")} == {None}


def test_a_variant_may_read_the_images_in_its_own_way_and_share_the_backbone(tmp_path):
    runs = planned(tmp_path, f"{VARIANTS}data = {{ batch_size = 64, limit = 500 }}\n")
    assert runs[1].needs == "small-joint-0"


def test_a_base_whose_file_takes_a_backbone_trains_none(tmp_path):
    runs = planned(tmp_path, train={"backbone_from": "runs/other"})
    assert {(run.needs, run.experiment.train.backbone_from) for run in runs} == {(None, "runs/other")}


def test_seeds_of_a_variant_are_its_own_and_their_backbones_are_trained(tmp_path):
    text = VARIANTS.replace("[variants.joint]", "[variants.joint]\nseeds = [1]") + "seeds = [0, 2]\n"
    assert names(planned(tmp_path, text)) == [
        ("small-joint-1", None),
        ("small-joint-0", None),
        ("small-gaussian-0", "small-joint-0"),
        ("small-joint-2", None),
        ("small-gaussian-2", "small-joint-2"),
    ]


def test_changes_that_do_not_exist_are_errors_of_all_variants_with_their_places(tmp_path):
    text = f"{VARIANTS}prior.stepz = 1\n[variants.long]\ntrain.prior.stepz = 9\n"
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"variant 'gaussian': {tmp_path / 'small.toml'}:8: prior.stepz: unknown key")
    assert lines[1].startswith(f"variant 'long': {tmp_path / 'small.toml'}:10: train.prior.stepz: unknown key; did you")


def test_two_variants_that_are_the_same_experiment_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="variants 'gaussian' and 'again' are the same experiment"):
        planned(tmp_path, f'{VARIANTS}[variants.again]\nprior.type = "gaussian"\n')


def test_a_name_that_no_folder_can_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"variants\.a b: Experiment\.name"):
        planned(tmp_path, VARIANTS.replace("variants.gaussian", 'variants."a b"'))
