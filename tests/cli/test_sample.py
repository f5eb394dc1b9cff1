"""`hebm sample`: a folder, an array, and what it refuses."""

import json
import re
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from real_runs import fork_server, hebm, tiny, train, wait_for, write_config

import hebm.adaptation as hebm_adaptation
from hebm.data.labels import asked_labels
from hebm.errors import ConfigError
from hebm.pixel_levels import to_pixels
from hebm.report.grids import grid
from hebm.runs import open_run
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    assert train(tiny(), folder)
    return folder


def sample(run, output, *options):
    process = hebm("sample", run, "-o", output, *options)
    assert process.status == 0, process.stderr
    return process


def test_a_folder_of_pngs_and_an_array_hold_the_same_images(run, tmp_path):
    assert sample(run, tmp_path / "images", "-n", "70").stdout == f"70 images in {tmp_path / 'images'}\n"
    sample(run, tmp_path / "images.npz", "-n", "70")
    array = np.load(tmp_path / "images.npz")["images"]
    assert (array.shape, array.dtype) == ((70, 8, 8, 1), np.uint8)
    paths = sorted((tmp_path / "images").iterdir())
    assert [path.name for path in paths[:2]] == ["000000.png", "000001.png"]
    assert np.array_equal(np.stack([np.array(Image.open(path)) for path in paths]), array[:, :, :, 0])
    assert np.array_equal(array, to_pixels(open_run(run).model.sample(70)).permute(0, 2, 3, 1).numpy())


def test_seed_steps_decoding_and_temperature_are_options(run, tmp_path):
    ways = {"plain": (), "seed": ("--seed", "1"), "steps": ("--steps", "9"), "decode": ("--decode", "sample")}
    ways["temperature"] = ("--temperature", "0.5")
    ways["temperature of each layer"] = ("--temperature", "0.5,1")
    found = {}
    for name, options in ways.items():
        sample(run, tmp_path / f"{name}.npz", "-n", "8", *options)
        found[name] = np.load(tmp_path / f"{name}.npz")["images"]
    assert all(not np.array_equal(found["plain"], found[name]) for name in ways if name != "plain")
    steps = to_pixels(open_run(run).model.sample(8, steps=9)).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found["steps"], steps)


@pytest.mark.parametrize("name", ["images", "x.npz"])
def test_what_is_there_is_replaced_only_if_asked_for(run, tmp_path, name):
    output = tmp_path / name
    sample(run, output, "-n", "3")
    before = content(output)
    process = hebm("sample", run, "-o", output, "-n", "2", "--seed", "1")
    assert process.status == 1
    assert "; name another with -o, or replace it with --force" in process.stderr
    assert content(output) == before
    sample(run, output, "-n", "2", "--seed", "1", "--force")
    sample(run, tmp_path / "fresh" / name, "-n", "2", "--seed", "1")
    assert content(output) == content(tmp_path / "fresh" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["fresh", name])


def content(output):
    """The bytes of an output: of a file, or of the files of a folder by name."""
    if output.is_file():
        return output.read_bytes()
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.mark.parametrize("name", ["images", pytest.param("x.npz", marks=pytest.mark.slow)])
def test_an_interrupted_command_keeps_what_it_drew_and_goes_on(run, tmp_path, name, monkeypatch):
    output, options = tmp_path / name, ("-n", 4000, "--batch-size", 64, "--steps", 30)
    monkeypatch.chdir(tmp_path)
    process = fork_server().hebm("sample", run, "-o", name, *options)
    journal = tmp_path / f"{name}.partial.jsonl"
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 2, 60, process)
    process.send(signal.SIGTERM)
    assert process.end() == 128 + signal.SIGTERM
    kept = re.search(rf"note: stopped: ([\d,]+) of 4,000 images are saved for {name}; continue with: ", process.stderr)
    assert 128 <= int(kept[1].replace(",", "")) < 4000
    refused = hebm("sample", run, "-o", name, *options, "--seed", "7")
    assert refused.status == 1
    assert "by other settings (seed: 0 there, 7 now); give the settings" in refused.stderr
    sample(run, output, *options)
    sample(run, tmp_path / "whole" / name, *options)
    assert content(output) == content(tmp_path / "whole" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "whole"])


def test_a_grid_shows_all_samples(run, tmp_path):
    sample(run, tmp_path / "grid.png", "-n", "6", "--columns", "3")
    expected = grid(open_run(run).model.sample(6), 3)
    assert np.array_equal(np.array(Image.open(tmp_path / "grid.png")), np.array(expected))


def test_the_end_of_another_kind_of_file_is_refused(run, tmp_path):
    process = hebm("sample", run, "-o", tmp_path / "x.jpg")
    assert process.status == 2
    assert "images are not written as .jpg; give a folder of PNGs, FILE.npz, FILE.npy, or GRID.png" in process.stderr


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    process = hebm("sample", tmp_path, "-o", tmp_path / "x.npz")
    assert process.status == 1
    assert "manifest.json" in process.stderr
    assert "Traceback" not in process.stderr


# ---------------------------------------------------------------- labels

SHIFTED = """
import torch
from hebm.config.recipes import recipe
from hebm.interfaces import Request, Draw, PriorLearner, PriorRecipe


class ShiftedPrior(PriorLearner):
    \"\"\"u = 1 + sum of the labels, the same for all coordinates; 0 without labels.\"\"\"

    labelled = True

    def __init__(self, dim):
        super().__init__()
        self.root, self.dim = None, dim

    def check(self, images):
        \"\"\"Any labels will do.\"\"\"

    def sample(self, backbone, n, noise, request=Request()):
        labels = request.labels
        shift = torch.zeros(n) if labels is None else 1 + labels.view(n, -1).sum(1).to(noise.dtype)
        return Draw(shift[:, None].expand(n, self.dim).contiguous())


@recipe
class Shifted(PriorRecipe):
    \"\"\"For tests.\"\"\"

    def build(self, backbone):
        return ShiftedPrior(backbone.layout.dim)
"""


def with_images(run, folder, **names):
    """A copy of the run whose images have these classes or attributes."""
    shutil.copytree(run, folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["images"] |= {"classes": [], "attributes": [], **names}
    path.write_text(json.dumps(manifest))
    RunFolder(folder).accept()
    return folder


@pytest.fixture
def labelled(run, plugin, tmp_path):
    """(run folder, path): the tiny run's backbone under a prior that takes labels."""
    site = plugin("hebm_priors", "shifted", "shifted_prior:Shifted", SHIFTED)
    table = tiny(train={"backbone": {"steps": 1}}, evaluate={"samples": 8})
    table["prior"] = {"type": "shifted"}
    del table["train"]["prior"]
    process = hebm("run", write_config(tmp_path, table), "--runs", tmp_path / "runs", path=[site])
    assert process.status == 0, process.stderr
    return tmp_path / "runs" / "tiny", [site]


def drawn(run, path, output, *options):
    process = hebm("sample", run, "-o", output, *options, path=path)
    assert process.status == 0, process.stderr
    return np.load(output)["images"]


def test_a_label_is_asked_for_all_images_by_name_or_number(labelled, tmp_path):
    run, path = labelled
    plain = drawn(run, path, tmp_path / "plain.npz", "-n", "70", "--batch-size", "64")
    three = drawn(run, path, tmp_path / "3.npz", "-n", "70", "--batch-size", "64", "--label", "3")
    assert len(three) == 70
    assert (three == three[0]).all()
    assert not np.array_equal(three[0], plain[0])
    renamed = with_images(run, tmp_path / "named", classes=list("abcdefghij"))
    for i, name in enumerate(("D", "3")):
        assert np.array_equal(drawn(renamed, path, tmp_path / f"d{i}.npz", "-n", "70", "--label", name), three)


def test_classes_are_drawn_in_turn_and_kept_with_the_images(labelled, tmp_path):
    run, path = labelled
    renamed = with_images(run, tmp_path / "named", classes=list("abcdefghij"))
    options = ("-n", "70", "--batch-size", "64")
    turns = drawn(renamed, path, tmp_path / "turns.npz", *options, "--label", "b", "--label", "d", "--label", "b")
    each = {i: drawn(renamed, path, tmp_path / f"{i}.npz", *options, "--label", str(i)) for i in (1, 3)}
    found = np.load(tmp_path / "turns.npz")
    assert found["labels"].tolist() == [(1, 3, 1)[i % 3] for i in range(70)]
    assert found["classes"].tolist() == list("abcdefghij")
    assert np.array_equal(turns, np.stack([each[(1, 3, 1)[i % 3]][i] for i in range(70)]))


def test_attributes_reach_the_prior_as_asked_not_asked_and_without(labelled, tmp_path):
    run, path = labelled
    faces = with_images(run, tmp_path / "faces", attributes=["Male", "Blond_Hair", "Smiling"])
    asked = {
        name: drawn(faces, path, tmp_path / f"{name}.npz", "-n", "2", "--attributes", name)
        for name in ("male", "male,smiling", "-male,blond hair,smiling", "-male,-smiling")
    }
    images = {name: array.tobytes() for name, array in asked.items()}
    assert images["male,smiling"] != images["male"]  # 1 + 1 − 1 and 1 − 1 − 1
    by_number = drawn(run, path, tmp_path / "2.npz", "-n", "2", "--label", "2").tobytes()
    assert images["-male,blond hair,smiling"] == by_number  # 0 + 1 + 1
    kept = np.load(tmp_path / "-male,-smiling.npz")
    assert kept["labels"].tolist() == [[0, -1, 0]] * 2
    assert kept["attributes"].tolist() == ["Male", "Blond_Hair", "Smiling"]
    assert images["-male,-smiling"] == images["male"]  # 0 − 1 + 0 and 1 − 1 − 1


def test_names_become_labels(run, tmp_path):
    classes = with_images(run, tmp_path / "classes", classes=["cat", "dog"])
    faces = with_images(run, tmp_path / "faces", classes=[], attributes=["Male", "Blond_Hair", "Smiling"])
    classes, faces = (read_run(folder).images for folder in (classes, faces))
    assert asked_labels(classes, 2, None, None) is None
    assert asked_labels(classes, 2, "dog", None).tolist() == [1, 1]
    assert asked_labels(classes, 2, ["dog", 0], None).tolist() == [1, 0]
    assert asked_labels(faces, 1, None, "smiling,-blond hair").tolist() == [[-1, 0, 1]]


@pytest.mark.parametrize(
    ("names", "label", "attributes", "message"),
    [
        ({"classes": ["cat", "dog"]}, "cot", None, "is not a class; did you mean 'cat'.*cat, dog"),
        ({"classes": ["cat", "dog"]}, None, "male", "have classes, not attributes; use a label of: cat, dog"),
        ({"attributes": ["Male", "Young"]}, "1", None, "not classes; use attributes with: Male, Young"),
        ({"attributes": ["Male", "Young"]}, None, "mole", "did you mean 'Male'"),
        ({"attributes": ["Male", "Young"]}, "1", "male", "give one of them"),
        ({}, "1", None, "no classes"),
        ({}, None, "male", "no attributes"),
    ],
)
def test_what_the_images_do_not_have_is_refused(run, tmp_path, names, label, attributes, message):
    with pytest.raises(ConfigError, match=message):
        asked_labels(read_run(with_images(run, tmp_path / "copy", **names)).images, 1, label, attributes)


def test_a_prior_without_labels_says_so_and_writes_nothing(run, tmp_path):
    process = hebm("sample", run, "-o", tmp_path / "x.npz", "--label", "3")
    assert process.status == 2
    assert "this prior was not trained with labels; leave them out" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "x.npz").exists()


def test_a_prior_may_be_asked_for_as_it_is_after_a_stage(tmp_path):
    folder = tmp_path / "tiny"
    stages = {"type": "multi-stage", "stages": 2, "sampler": {"type": "ula", "steps": 2}}
    table = tiny()
    table["prior"] = {**stages, "energy": {"type": "mlp", "width": 6}}
    table["train"]["prior"]["steps"] = 2
    assert train(table, folder)
    made = {}
    for name in (None, "stage 1", "stage 2"):
        process = hebm("sample", folder, "-n", 4, "-o", tmp_path / f"{name}.npz", *(("--after", name) if name else ()))
        assert process.status == 0, process.stderr
        made[name] = np.load(tmp_path / f"{name}.npz")["images"]
    assert np.array_equal(made[None], made["stage 2"])
    process = hebm("sample", folder, "-n", 4, "-o", tmp_path / "x.npz", "--after", "stage 3")
    assert process.status == 2
    assert "it has 'root', 'stage 1', 'stage 2'" in process.stderr


def test_starts_and_adapted_step_sizes_are_reported_and_a_start_can_be_the_end(tmp_path):
    folder, table = tmp_path / "tiny", tiny(evaluate={"after": "start"})
    table["prior"]["start_proposals"] = 4
    table["prior"]["sampler"] = {"type": "pcn-mala", "steps": 2, "target_acceptance": 0.6}
    assert train(table, folder)
    process = sample(folder, tmp_path / "x.npz", "-n", 70, "--batch-size", 64)
    said = process.stdout.splitlines()
    assert re.fullmatch(r"ess start: 0\.\d+ \(mean of 70\)", said[0])
    model = open_run(folder).model
    model.sample(1)
    h, acceptance = model.adaptations["prior"]
    assert said[1] == f"prior: step size {h:g}, adapted, acceptance {100 * acceptance:.1f} %"
    stopped = sample(folder, tmp_path / "y.npz", "-n", 4, "--after", "start")
    assert stopped.stdout.splitlines()[0].startswith("ess start")
    assert "step size" not in stopped.stdout
    own, at_start, at_root = (
        np.load(tmp_path / f"{name}.npz")["images"]
        for name, options in (("y", ()), ("z", ("--steps", 0)), ("r", ("--steps", 0, "--start-proposals", 1)))
        if not options or sample(folder, tmp_path / f"{name}.npz", "-n", 4, *options)
    )
    assert np.array_equal(own, at_start)
    sample(folder, tmp_path / "root.npz", "-n", 4, "--after", "root")
    assert np.array_equal(at_root, np.load(tmp_path / "root.npz")["images"])


def test_an_unfinished_run_is_drawn_from_only_if_asked_for(tmp_path):
    assert not train(tiny(), tmp_path / "tiny", stop_after=9)
    process = hebm("sample", tmp_path / "tiny", "-n", "2", "-o", tmp_path / "x.npz")
    assert process.status == 1
    assert "is unfinished: it is at step 3 of 6 in phase 'prior'" in process.stderr
    assert not (tmp_path / "x.npz").exists()
    process = hebm("sample", tmp_path / "tiny", "-n", "2", "-o", tmp_path / "x.npz", "--allow-unfinished")
    assert process.status == 0, process.stderr
    assert (tmp_path / "x.npz").exists()


def test_step_sizes_are_adapted_once_for_all_commands(tmp_path, monkeypatch):
    folder, table = tmp_path / "tiny", tiny()
    table["prior"]["sampler"] = {"type": "pcn-mala", "steps": 2, "target_acceptance": 0.6}
    assert train(table, folder)
    said = sample(folder, tmp_path / "x.npz", "-n", 2).stdout
    kept = json.loads(RunFolder(folder).adaptations.read_text())["found"]
    monkeypatch.setattr(hebm_adaptation, "_adapt", lambda *_: pytest.fail("adapted again"))
    model = open_run(folder).model
    model.sample(1)
    assert {name: list(found) for name, found in model.adaptations.items()} == kept
    assert sample(folder, tmp_path / "y.npz", "-n", 2).stdout == said.replace("x.npz", "y.npz")
