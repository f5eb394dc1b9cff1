"""`hebm sample`: a folder, an array, and what it refuses."""

import numpy as np
import pytest
from PIL import Image
from real_runs import hebm, tiny, train

from hebm.evaluate.references import to_pixels
from hebm.model import Model


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
    assert np.array_equal(array, to_pixels(Model.load(run).sample(70)).permute(0, 2, 3, 1).numpy())


def test_seed_steps_decoding_and_temperature_are_options(run, tmp_path):
    ways = {"plain": (), "seed": ("--seed", "1"), "steps": ("--steps", "9"), "decode": ("--decode", "sample")}
    ways["temperature"] = ("--temperature", "0.5")
    found = {}
    for name, options in ways.items():
        sample(run, tmp_path / f"{name}.npz", "-n", "8", *options)
        found[name] = np.load(tmp_path / f"{name}.npz")["images"]
    assert all(not np.array_equal(found["plain"], found[name]) for name in ways if name != "plain")
    steps = to_pixels(Model.load(run).sample(8, steps=9)).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found["steps"], steps)


def test_a_folder_that_holds_images_is_not_written_to(run, tmp_path):
    sample(run, tmp_path / "images", "-n", "2")
    process = hebm("sample", run, "-o", tmp_path / "images", "-n", "2")
    assert process.status == 1
    assert "holds images already" in process.stderr


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    process = hebm("sample", tmp_path, "-o", tmp_path / "x.npz")
    assert process.status == 1
    assert "manifest.json" in process.stderr
    assert "Traceback" not in process.stderr
