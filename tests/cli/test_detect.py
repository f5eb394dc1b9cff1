"""`hebm detect`: a line for each file of a folder."""

import csv

import pytest
import torch
from PIL import Image
from real_runs import hebm, tiny, train

from hebm.evaluate.references import to_pixels
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
    assert "its prior has no tilt" in process.stderr
