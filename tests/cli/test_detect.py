"""`hebm detect`: a line for each file of a folder."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from real_runs import hebm, tiny, train

from hebm.data.archives import open_files
from hebm.data.image_files import FileImages
from hebm.pixel_levels import to_pixels
from hebm.registry import find


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    assert train(tiny(), folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    images = to_pixels(find("hebm_datasets", "digits")().load("test").read(torch.arange(70)))
    for i, image in enumerate(images):
        path = tmp_path / "images" / str(i % 2) / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    return tmp_path / "images"


def scores(run, folder, output, *options):
    process = hebm("detect", run, folder, "-o", output, *options)
    assert process.status == 0, process.stderr
    with open(output) as file:
        return list(csv.reader(file)), process


def test_each_file_has_a_line_in_order_with_the_sum_over_all_layers_and_those_above(run, folder, tmp_path):
    (header, *rows), process = scores(run, folder, tmp_path / "scores.csv")
    assert header == ["file", "total", "L>1"]
    assert [row[0] for row in rows] == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert len({row[1] for row in rows}) == 70
    assert "70 images" in process.stdout


def test_the_batch_size_changes_no_score_and_the_seed_does(run, folder, tmp_path):
    whole, _ = scores(run, folder, tmp_path / "a.csv")
    small, _ = scores(run, folder, tmp_path / "b.csv", "--batch-size", "64")
    other, _ = scores(run, folder, tmp_path / "c.csv", "--seed", "1")
    numbers = [torch.tensor([[float(x) for x in row[1:]] for row in rows[1:]]) for rows in (whole, small, other)]
    assert torch.allclose(numbers[0], numbers[1], atol=1e-5)
    assert not torch.allclose(numbers[0], numbers[2], atol=1e-5)


def test_a_damaged_file_stops_it_or_is_left_out(run, folder, tmp_path):
    (folder / "bad.png").write_text("junk")
    process = hebm("detect", run, folder, "-o", tmp_path / "s.csv")
    assert process.status == 1
    assert "bad.png: cannot be read as an image" in process.stderr
    assert not (tmp_path / "s.csv").exists()
    rows, process = scores(run, folder, tmp_path / "s.csv", "--corrupt", "skip")
    assert len(rows) == 71
    assert "bad.png" in process.stderr


def test_a_prior_without_a_tilt_is_refused(folder, tmp_path):
    assert train(tiny(prior="gaussian"), tmp_path / "plain")
    process = hebm("detect", tmp_path / "plain", folder, "-o", tmp_path / "s.csv")
    assert process.status == 2
    assert "this prior has no tilt" in process.stderr


def test_images_are_shown_to_the_model_as_training_showed_them(tmp_path):
    """Whole pictures, their frames of noise to be cut off, and the same pictures cut before."""
    draw = np.random.default_rng(1)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    for i in range(16):
        pixels = draw.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        pixels[4:20, 4:20] = np.kron(draw.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
        image = Image.fromarray(pixels)
        image.save(tmp_path / "whole" / f"{i:02d}.png")
        image.crop((4, 4, 20, 20)).resize((8, 8), Image.Resampling.BILINEAR).save(tmp_path / "cut" / f"{i:02d}.png")
    data = {"type": "image-folder", "root": str(tmp_path / "whole"), "crop": 16, "size": 8, "batch_size": 8}
    assert train({**tiny(), "data": data}, tmp_path / "tiny")
    whole, _ = scores(tmp_path / "tiny", tmp_path / "whole", tmp_path / "a.csv")
    cut, _ = scores(tmp_path / "tiny", tmp_path / "cut", tmp_path / "b.csv")
    assert whole == cut
    trained = find("hebm_datasets", "image-folder")(root=str(tmp_path / "whole"), crop=16, size=8)
    shown = FileImages(open_files(tmp_path / "cut"), (3, 8, 8), trained.decoder((3, 8, 8))).read(torch.arange(16))
    learned = torch.cat(
        [trained.load(split).read(torch.arange(len(trained.load(split)))) for split in ("train", "test")]
    )
    assert sorted(map(hash_of, shown)) == sorted(map(hash_of, learned))


def hash_of(image):
    return hash(image.numpy().tobytes())


def test_an_unfinished_run_scores_only_if_asked_for(folder, tmp_path):
    assert not train(tiny(), tmp_path / "tiny", stop_after=9)
    process = hebm("detect", tmp_path / "tiny", folder, "-o", tmp_path / "s.csv")
    assert process.status == 1
    assert "is unfinished: it is at step 3 of 6 in phase 'prior'" in process.stderr
    scores(tmp_path / "tiny", folder, tmp_path / "s.csv", "--allow-unfinished")
