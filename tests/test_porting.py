"""Import and export as any format gets them: a run folder like any other, and nothing where something fails."""

import json

import attrs
import pytest
import torch
from real_runs import newest, tiny, train
from written_images import encoded, write

from hebm import registry
from hebm.building import build
from hebm.config.experiment import Experiment
from hebm.config.recipes import option, recipe
from hebm.errors import CheckpointError, ConfigError, PluginError
from hebm.interfaces import ImageSpec
from hebm.porting import (
    CheckpointFormat,
    ConvertedCheckpoint,
    ForeignFile,
    export_checkpoint,
    import_checkpoint,
    only_file,
)
from hebm.runs import open_run
from hebm.store import foreign

IMAGES = ImageSpec(1, 8, 8)


def experiment():
    return Experiment.from_table(tiny(prior="gaussian", train={"backbone": {"steps": 5}}))


@recipe
class Plain(CheckpointFormat):
    """Another code's files: weights under our names with a prefix, with anything else."""

    said: str = option("a note", doc="the note of an import")

    def read(self, files):
        content = only_file(files).content
        weights = {name.removeprefix("net."): value for name, value in content["net"].items()}
        rest = {key: value for key, value in content.items() if key != "net"}
        return ConvertedCheckpoint(experiment(), IMAGES, weights, {}, 5, rest, (self.said,))

    def write(self, converted):
        net = {f"net.{name}": value for name, value in converted.backbone.items()}
        return ForeignFile("plain.pt", {"net": net, **(converted.leftovers or {})})


@recipe
class Parts(CheckpointFormat):
    """Weights in files of their own, with a log."""

    def read(self, files):
        weights = {file.name.partition(".pt")[0]: file.content for file in files if file.name.endswith(".pt")}
        (log,) = (file for file in files if file.name == "log.json")
        return ConvertedCheckpoint(experiment(), IMAGES, weights, {}, json.loads(log.content)["step"])

    def write(self, converted):
        raise CheckpointError("several files")


@pytest.fixture(autouse=True)
def formats():
    for name, kind in {"plain": Plain, "parts": Parts}.items():
        registry.register("hebm_formats", name, kind)
    yield
    for name in ("plain", "parts"):
        registry.unregister("hebm_formats", name)


@pytest.fixture
def file(tmp_path):
    """`file(weights=…)` writes a checkpoint in that format."""

    def write(weights=None, **rest):
        weights = build(experiment(), IMAGES).backbone.state_dict() if weights is None else weights
        path = tmp_path / "in.pt"
        torch.save({"net": {f"net.{name}": value for name, value in weights.items()}, **rest}, path)
        return path

    return write


def test_an_imported_folder_is_a_run_under_its_folders_name(file, tmp_path):
    imported = import_checkpoint("plain", file(extra=(1, "x")), tmp_path / "runs" / "mine")
    run = tmp_path / "runs" / "mine"
    assert Experiment.load(run / "config.toml").name == "mine"
    assert (imported.folder.path, imported.converted.notes) == (run, ("a note",))
    assert imported.folder.read().manifest["data"] is None
    assert torch.equal(open_run(run).model.sample(3), imported.model.sample(3))
    assert [path.name for path in run.parent.iterdir()] == ["mine"]


def test_export_gives_back_what_was_imported(file, tmp_path):
    source = file(extra={"a": (1, [torch.ones(2)])})
    import_checkpoint("plain", source, tmp_path / "mine")
    export_checkpoint("plain", tmp_path / "mine", tmp_path / "out.pt")
    before, after = (foreign.load(path, ()) for path in (source, tmp_path / "out.pt"))
    assert list(before) == list(after)
    assert all(torch.equal(before["net"][name], after["net"][name]) for name in before["net"])
    assert torch.equal(after["extra"]["a"][1][0], torch.ones(2))


def test_a_format_may_be_given_as_a_recipe_with_its_options(file, tmp_path):
    imported = import_checkpoint(Plain(said="of this file"), file(extra=3), tmp_path / "mine")
    assert imported.converted.notes == ("of this file",)
    exported = export_checkpoint(Plain(), tmp_path / "mine", tmp_path / "out.pt")
    assert foreign.load(exported.path, ())["extra"] == 3  # its leftovers are found under the registered name


def test_an_export_into_a_folder_has_the_published_name(file, tmp_path):
    import_checkpoint("plain", file(), tmp_path / "mine")
    assert export_checkpoint("plain", tmp_path / "mine", tmp_path).path == tmp_path / "plain.pt"
    with pytest.raises(CheckpointError, match=r"plain\.pt exists already"):
        export_checkpoint("plain", tmp_path / "mine", tmp_path)


def test_a_checkpoint_may_be_several_files_and_text(tmp_path):
    weights = build(experiment(), IMAGES).backbone.state_dict()
    for name, value in weights.items():
        torch.save(value, tmp_path / f"{name}.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "log.json").write_text('{"step": 5, "place": "Zürich"}', encoding="utf-8")
    files = [*(tmp_path / f"{name}.pt" for name in weights), tmp_path / "log.json"]
    imported = import_checkpoint("parts", files, tmp_path / "mine")
    assert imported.converted.step == 5
    own = imported.model.backbone.state_dict()
    assert all(torch.equal(own[name], value) for name, value in weights.items())
    assert imported.converted.notes[0].startswith(f"{next(iter(weights))}.pt: the file has torch's older format")


def test_several_files_for_a_format_of_one_are_an_error_that_names_them(file, tmp_path):
    with pytest.raises(CheckpointError, match=r"reads one file, but 2 were given \(in\.pt, in\.pt\)"):
        import_checkpoint("plain", [file(), file()], tmp_path / "mine")
    with pytest.raises(CheckpointError, match="0 were given"):
        import_checkpoint("plain", [], tmp_path / "mine")


def test_a_text_file_that_is_not_text_is_an_error(file, tmp_path):
    (tmp_path / "log.json").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"log\.json is not UTF-8 text"):
        import_checkpoint("parts", [tmp_path / "log.json"], tmp_path / "mine")


def test_buffers_that_the_other_code_lacks_keep_their_initial_values_and_parameters_may_not_be_lacking(
    file, tmp_path, monkeypatch
):
    from hebm_plugins.two_layer.backbone import TwoLayerBackbone

    begin = TwoLayerBackbone.__init__

    def with_buffer(self, *arguments, **options):
        begin(self, *arguments, **options)
        self.register_buffer("extra", torch.tensor([3.0]))

    weights = build(experiment(), IMAGES).backbone.state_dict()
    monkeypatch.setattr(TwoLayerBackbone, "__init__", with_buffer)
    import_checkpoint("plain", file(weights), tmp_path / "mine")
    assert open_run(tmp_path / "mine").model.backbone.extra == 3
    first, *rest = weights
    with pytest.raises(CheckpointError, match=f"missing {first}"):
        import_checkpoint("plain", file({name: weights[name] for name in rest}), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.fixture
def images(tmp_path):
    """`images(side)` makes a folder of grey pictures."""

    def make(side):
        return write(tmp_path / "pictures", {f"{i}.png": encoded(40 * i, side=side) for i in range(5)})

    return make


def test_keys_of_the_configuration_may_be_set_at_import(file, images, tmp_path):
    changes = (f"data.root={images(8)}", "data.type=image-folder", "data.channels=1", "evaluate.samples=64")
    imported = import_checkpoint("plain", file(), tmp_path / "mine", changes)
    found = Experiment.load(tmp_path / "mine" / "config.toml")
    assert (type(found.data).__name__, found.data.channels, found.evaluate.samples) == ("ImageFolder", 1, 64)
    assert imported.converted.notes == ("a note",)
    assert open_run(tmp_path / "mine").experiment.data.root == str(tmp_path / "pictures")


def test_images_of_another_shape_than_the_weights_are_an_error_that_says_both(file, images, tmp_path):
    changes = {"data.type": "image-folder", "data.root": str(images(9))}
    with pytest.raises(ConfigError, match=r"the images are 3x9x9, but the weights expect 1x8x8 .*data\.size"):
        import_checkpoint("plain", file(), tmp_path / "mine", changes)
    assert not (tmp_path / "mine").exists()


def test_images_that_are_elsewhere_are_a_note(file, tmp_path):
    changes = {"data.type": "image-folder", "data.root": "elsewhere"}
    notes = import_checkpoint("plain", file(), tmp_path / "mine", changes).converted.notes
    assert "cannot be read here" in notes[1]
    assert "elsewhere" in notes[1]


@pytest.mark.parametrize("change", ["prior.type=joint", "train.backbone.steps=7", "name=x"])
def test_what_the_file_decides_cannot_be_set(change, file, tmp_path):
    with pytest.raises(ConfigError, match="the imported file determines this key"):
        import_checkpoint("plain", file(), tmp_path / "mine", (change,))


def test_a_backbone_that_does_not_fit_the_weights_is_an_error(file, tmp_path):
    with pytest.raises(CheckpointError, match="other shape"):
        import_checkpoint("plain", file(), tmp_path / "mine", ("backbone.widths=[7]",))
    assert not (tmp_path / "mine").exists()


def test_what_exists_is_not_touched(file, tmp_path):
    for target in (tmp_path / "folder", tmp_path / "link"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "link").is_symlink() or (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(CheckpointError, match="exists already"):
            import_checkpoint("plain", file(), target)
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize(
    ("name", "kind", "error", "said"),
    [
        ("mine", "plian", PluginError, "did you mean 'plain'"),
        ("no name of a run", "plain", ConfigError, "name"),
    ],
)
def test_unknown_formats_and_names_that_no_run_may_have_are_errors(name, kind, error, said, file, tmp_path):
    source = file()
    with pytest.raises(error, match=said):
        import_checkpoint(kind, source, tmp_path / name)
    assert list(tmp_path.iterdir()) == [source]


def test_a_write_that_fails_leaves_nothing(file, tmp_path, monkeypatch):
    from hebm.store import checkpoints

    def full(*arguments):
        raise CheckpointError("cannot save: No space left on device")

    source = file()
    monkeypatch.setattr(checkpoints, "_write", full)
    with pytest.raises(CheckpointError, match="No space left"):
        import_checkpoint("plain", source, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == [source]


def test_a_run_trained_here_is_exported_with_its_averaged_weights(tmp_path):
    assert train(tiny(), tmp_path / "tiny")
    converted = export_checkpoint("plain", tmp_path / "tiny", tmp_path / "out.pt").converted
    average = newest(tmp_path / "tiny").tensors
    assert (converted.step, converted.leftovers) == (12, None)
    assert set(average) == {"backbone", "prior", "prior-ema", "optimizer-prior"}
    exported = foreign.load(tmp_path / "out.pt", ())["net"]
    assert all(torch.equal(exported[f"net.{name}"], value) for name, value in average["backbone"].items())


def test_what_the_format_cannot_express_writes_nothing(file, tmp_path, monkeypatch):
    import_checkpoint("plain", file(), tmp_path / "mine")

    def refuse(self, converted):
        raise CheckpointError("grey alone")

    monkeypatch.setattr(Plain, "write", refuse)
    with pytest.raises(CheckpointError, match="grey alone"):
        export_checkpoint("plain", tmp_path / "mine", tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_a_folder_that_is_no_run_and_a_run_without_checkpoints_are_errors(file, tmp_path):
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        export_checkpoint("plain", tmp_path, tmp_path / "out.pt")
    run = import_checkpoint("plain", file(), tmp_path / "mine").folder
    for path in run.checkpoints.iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        export_checkpoint("plain", run.path, tmp_path / "out.pt")


def test_a_ported_backbone_is_a_value_with_defaults():
    converted = ConvertedCheckpoint(experiment(), IMAGES, {})
    assert attrs.asdict(converted, recurse=False) == {
        "experiment": experiment(),
        "images": IMAGES,
        "backbone": {},
        "moments": {},
        "step": 0,
        "leftovers": None,
        "notes": (),
    }
