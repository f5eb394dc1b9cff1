"""Analyses are chosen by name with their options, and a folder is there whole or as it was."""

import json
import shutil

import attrs
import pytest
from real_runs import tiny, train

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.running import analyse, available, choose, opened, split_changes
from hebm.analysis.section import Section, read_section
from hebm.config.recipes import option, recipe
from hebm.errors import CheckpointError, ConfigError, NonFiniteError, PluginError
from hebm.registry import find, register, unregister
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import read_run


@recipe
class Counts(AnalysisRecipe):
    """An analysis that succeeds, is unsupported or fails, as `say` has it."""

    say: str = option("once", doc="what to say", choices=("once", "refuse", "fail"))

    def unsupported(self, evaluation):
        return "it was asked to refuse" if self.say == "refuse" else None

    def run(self, evaluation, folder):
        (folder / "half.txt").write_text("half")
        if self.say == "fail":
            raise NonFiniteError("half way")
        return Section("Counts", (f"{len(evaluation.splits['test'])} test images",))


@pytest.fixture(autouse=True)
def registered():
    register("hebm_analyses", "counts", Counts)
    yield
    unregister("hebm_analyses", "counts")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    assert train(tiny(), folder)
    return folder


def test_options_of_an_analysis_are_told_from_those_of_the_run():
    texts = ("ood.images=5", "evaluate.samples=64", "counts.say=fail")
    of_run, of_analyses = split_changes(texts)
    assert [override.path for override in of_run] == [("evaluate", "samples")]
    assert [override.path for override in of_analyses] == [("ood", "images"), ("counts", "say")]


def test_options_may_be_a_mapping_as_well():
    of_run, of_analyses = split_changes({"ood": {"images": 5}, "evaluate.samples": 64})
    assert [override.path for override in (*of_run, *of_analyses)] == [("evaluate", "samples"), ("ood", "images")]
    assert choose(["counts"], {"counts.say": "fail"})["counts"] == Counts(say="fail")


def test_options_are_checked_as_in_a_file():
    assert choose(["counts"], ["counts.say=fail"])["counts"] == Counts(say="fail")
    nested = choose(["ood"], ["ood.data.type=digits", "ood.data.limit=7"])["ood"]
    assert nested.data == find("hebm_datasets", "digits")(limit=7)
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*ood.imgs: unknown key; did you mean 'images'.*counts.say"):
        choose(["ood", "counts"], ["ood.imgs=3", "counts.say=never"])
    with pytest.raises(ConfigError, match="analysis 'ood' is not selected"):
        choose(["counts"], ["ood.images=3"])
    with pytest.raises(PluginError, match="did you mean 'counts'"):
        choose(["count"], [])


def test_all_that_are_installed_can_be_had():
    found, broken = available()
    assert broken == {}
    assert {"anomaly", "chains", "counts", "hierarchical", "interpolation", "ood", "temperature"} <= set(found)


def test_a_finished_analysis_is_kept_with_its_conditions_and_a_failed_one_leaves_the_old(run):
    with opened(read_run(run)) as whole:
        analyse(whole, "counts", Counts())
        with pytest.raises(NonFiniteError):
            analyse(whole, "counts", Counts(say="fail"))
    assert read_section(run / "analyses/counts").text == ("299 test images",)
    conditions = json.loads((run / "analyses/counts/section.json").read_text())["conditions"]
    assert (conditions["seed"], conditions["options"]) == (0, {"type": "counts", "say": "once"})
    assert sorted(path.name for path in (run / "analyses").iterdir()) == ["counts"]


def test_a_refusal_is_an_error_with_its_reason(run):
    with opened(read_run(run)) as whole, pytest.raises(ConfigError, match="counts: it was asked to refuse"):
        analyse(whole, "counts", Counts(say="refuse"))


def test_a_run_is_opened_as_what_it_was_trained_to_be(run):
    with opened(read_run(run), ["evaluate.samples=64"]) as whole:
        assert whole.evaluation.settings.samples == 64
    with (
        pytest.raises(ConfigError, match=r"prior\.sampler\.steps: 3 → 4"),
        opened(read_run(run), ["prior.sampler.steps=4"]),
    ):
        pass


def test_other_images_are_refused_and_allowed_without_a_trace(run, tmp_path):
    run = shutil.copytree(run, tmp_path / "tiny")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "data": {"train": "f00d", "test": "f00d"}}))
    RunFolder(run).accept()
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name != "run.lock"}
    with (
        pytest.raises(CheckpointError, match=r"(?s)data fingerprint\.train: 'f00d' → .*--allow-changes"),
        opened(read_run(run)),
    ):
        pass
    with opened(read_run(run), allow=True) as whole:
        assert attrs.asdict(whole, recurse=False)["folder"].path == run
    assert {path: path.read_bytes() for path in before} == before


def test_what_is_not_trained_to_its_end_is_refused(tmp_path):
    assert not train(tiny(), tmp_path / "tiny", stop_after=9)
    with (
        pytest.raises(CheckpointError, match="is unfinished: it is at step 3 of 6"),
        opened(read_run(tmp_path / "tiny")),
    ):
        pass
