"""`hebm detect`: a line for each file of a folder."""

import csv
import io
import shutil
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from real_runs import hebm, tiny, train

from hebm.cli import detect
from hebm.data.archives import open_files
from hebm.data.image_files import FileImages
from hebm.detecting import Scoring
from hebm.errors import DataError
from hebm.outputs.resumable import Resumable
from hebm.pixel_levels import to_pixels
from hebm.registry import find
from hebm.runs import open_run
from hebm.training.listeners import Listener


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
    low = "percentile_low_is_unusual"
    assert header == ["file", "total", low, "L>1", f"L>1_{low}"]
    assert [row[0] for row in rows] == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert len({row[1] for row in rows}) == 70
    assert "70 images" in process.stdout


def test_samples_in_an_npz_have_a_line_each(run, folder, tmp_path):
    samples = tmp_path / "samples.npz"
    drawn = hebm("sample", run, "-n", "3", "-o", samples)
    assert drawn.status == 0, drawn.stderr
    (_, *rows), _ = scores(run, samples, tmp_path / "scores.csv")
    assert [row[0] for row in rows] == [f"{samples}:{i}" for i in range(3)]
    np.savez(samples, images=np.zeros((2, 5, 5, 1), np.uint8))
    refused = hebm("detect", run, samples)
    assert refused.status == 1
    assert "is 5×5 pixels, the data's images are 8×8; give an .npz with uint8 images" in refused.stderr


def test_the_batch_size_changes_no_score_and_the_seed_does(run, folder, tmp_path):
    whole, _ = scores(run, folder, tmp_path / "a.csv")
    small, _ = scores(run, folder, tmp_path / "b.csv", "--batch-size", "64")
    other, _ = scores(run, folder, tmp_path / "c.csv", "--seed", "1")
    numbers = [torch.tensor([[float(x) for x in row[1::2]] for row in rows[1:]]) for rows in (whole, small, other)]
    assert torch.allclose(numbers[0], numbers[1], atol=1e-5)
    assert not torch.allclose(numbers[0], numbers[2], atol=1e-5)


def test_a_damaged_file_stops_it_or_is_left_out(run, folder, tmp_path):
    (folder / "bad.png").write_text("junk")
    (folder / "0" / "empty.jpg").write_text("")
    process = hebm("detect", run, folder, "-o", tmp_path / "s.csv")
    assert process.status == 1
    assert "error: 2 of 72 files cannot be read as images; fix or remove them, or skip such" in process.stderr
    assert process.stderr.count(": cannot be read as an image (") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    rows, process = scores(run, folder, tmp_path / "s.csv", "--corrupt", "skip")
    assert len(rows) == 71
    assert "note: left out 2 of 72 files, which cannot be read as images:\n" in process.stderr
    assert "0/empty.jpg: cannot" in process.stderr
    assert "bad.png: cannot" in process.stderr


# ---------------------------------------------------------------- percentiles

LOW = "percentile_low_is_unusual"


def columns(path):
    with open(path) as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0] if name != "file"}


def test_each_score_has_its_percentile_among_the_test_images(run, folder, tmp_path):
    scores(run, folder, tmp_path / "s.csv")
    found = columns(tmp_path / "s.csv")
    model, test = open_run(run).model, find("hebm_datasets", "digits")().load("test")
    reference = model.score(test).above
    for k, (name, ranks) in enumerate({"total": LOW, "L>1": f"L>1_{LOW}"}.items()):
        others = reference[:, k]
        for score, rank in zip(found[name], found[ranks], strict=True):
            below = float((others < score - 1e-6).double().mean()) * 100
            not_above = float((others <= score + 1e-6).double().mean()) * 100
            assert below - 1e-9 <= rank <= not_above + 1e-9


def test_the_scores_of_the_test_images_are_kept_and_need_no_data_later(run, folder, tmp_path, monkeypatch):
    scores(run, folder, tmp_path / "a.csv")
    opened = open_run(run)
    monkeypatch.setattr(type(opened.experiment.data), "load", lambda *_: pytest.fail("read again"))
    kept = Scoring(opened, opened.model).of_test_images(Listener())
    assert len(kept) == 299
    (path,) = (run / "cache").iterdir()
    path.write_bytes(b"damaged")
    monkeypatch.undo()
    again = Scoring(opened, opened.model).of_test_images(Listener())
    assert torch.equal(again, kept)
    assert not torch.equal(Scoring(opened, opened.model, draws=2).of_test_images(Listener()), kept)
    assert len([*(run / "cache").iterdir()]) == 2


def test_an_image_beyond_the_threshold_gives_exit_status_3(run, folder, tmp_path):
    scores(run, folder, tmp_path / "s.csv", "--threshold", 0)
    lowest = min(columns(tmp_path / "s.csv")[LOW])
    for threshold, status in ((lowest, 0), (lowest + 0.1, 3)):
        process = hebm("detect", run, folder, "-o", tmp_path / f"{status}.csv", "--threshold", threshold)
        assert process.status == status
        assert (tmp_path / f"{status}.csv").read_bytes() == (tmp_path / "s.csv").read_bytes()
    assert f"1 of 70 images are below percentile {lowest + 0.1:g}" in process.stderr
    process = hebm("detect", run, folder, "--threshold", 100)
    assert process.status == 3
    assert process.stdout == (tmp_path / "s.csv").read_text()


def test_percentiles_may_be_left_out(run, folder, tmp_path):
    rows, _ = scores(run, folder, tmp_path / "s.csv", "--no-percentiles")
    assert rows[0] == ["file", "total", "L>1"]
    process = hebm("detect", run, folder, "--no-percentiles", "--threshold", 1)
    assert process.status == 2
    assert "--threshold needs percentiles" in process.stderr


# ---------------------------------------------------------------- what is scored


def test_a_file_an_archive_and_a_list_are_scored_like_the_folder(run, folder, tmp_path, monkeypatch):
    whole, _ = scores(run, folder, tmp_path / "a.csv", "--no-percentiles")
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        for path in sorted(folder.rglob("*.png"), reverse=True):
            archive.add(path, path.relative_to(folder).as_posix())
    archived, _ = scores(run, tmp_path / "b.tar.gz", tmp_path / "b.csv", "--no-percentiles")
    assert archived == whole
    first = folder / whole[1][0]
    single, _ = scores(run, first, tmp_path / "c.csv", "--no-percentiles")
    assert [row[0] for row in single] == ["file", str(first)]
    assert float(single[1][1]) == pytest.approx(float(whole[1][1]), abs=1e-5)
    lines = "".join(f"{folder / row[0]}\n" for row in whole[1:]).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines + b"\r\n")))
    monkeypatch.chdir(tmp_path)
    detect.command.main([str(run), "-", "-o", "d.csv", "--no-percentiles"], standalone_mode=False)
    with open("d.csv") as file:
        listed = list(csv.reader(file))
    assert [row[1:] for row in listed] == [row[1:] for row in whole]
    assert [row[0] for row in listed[1:]] == [str(folder / row[0]) for row in whole[1:]]


@pytest.mark.parametrize(("lines", "message"), [("", "has no paths"), ("nowhere.png\n", "nowhere.png: cannot be read")])
def test_a_list_without_images_is_refused(run, tmp_path, monkeypatch, lines, message):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    with pytest.raises(DataError, match=message):
        detect.command.main([str(run), "-"], standalone_mode=False)


# ---------------------------------------------------------------- interruptions


class Killed(BaseException):
    """In place of a signal that cannot be caught."""


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_an_interrupted_command_goes_on_where_it_stopped(run, folder, tmp_path, monkeypatch, batches):
    monkeypatch.chdir(tmp_path)
    arguments = [str(run), "images", "--batch-size", "64"]
    for i in range(70, 140):
        shutil.copy(folder / "0" / "00.png", folder / f"{i}.png")
    detect.command.main([*arguments, "-o", "whole.csv"], standalone_mode=False)
    scored, write, calls = [], Resumable.write, iter(range(9))

    def dying(self, rows):
        if next(calls) == batches:
            self.writer.write(self.done, [["half a row"]])
            raise Killed
        write(self, rows)

    monkeypatch.setattr(Resumable, "write", dying)
    with pytest.raises(Killed):
        detect.command.main([*arguments, "-o", "s.csv"], standalone_mode=False)
    monkeypatch.setattr(Resumable, "write", lambda self, rows: (scored.extend(rows), write(self, rows)))
    with pytest.raises(DataError, match=r"by other settings \(seed: 0 there, 1 now\)"):
        detect.command.main([*arguments, "-o", "s.csv", "--seed", "1"], standalone_mode=False)
    detect.command.main([*arguments, "-o", "s.csv"], standalone_mode=False)
    assert len(scored) == 140 - 64 * batches
    assert (tmp_path / "s.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "s.csv", "whole.csv"]
    with pytest.raises(DataError, match=r"s\.csv exists already; name another with -o, or replace it with --force"):
        detect.command.main([*arguments, "-o", "s.csv"], standalone_mode=False)
    detect.command.main([*arguments, "-o", "s.csv", "--force", "--no-percentiles"], standalone_mode=False)
    assert len((tmp_path / "s.csv").read_text().splitlines()[0].split(",")) == 3


# ---------------------------------------------------------------- what it refuses, and how images are read


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
