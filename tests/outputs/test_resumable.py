"""Outputs that are gone on with: cut off at every batch, at their end, and refused where they do not fit."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hebm.errors import CheckpointError, ConfigError, DataError
from hebm.outputs.drawn import Drawn
from hebm.outputs.image_outputs import image_writer
from hebm.outputs.journal import Journal
from hebm.outputs.resumable import Resumable

KINDS = ["images", "x.npz", "x.npy", "x.png"]
NUMBER, BATCH = 10, 4
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (NUMBER, 3, 5, 6), dtype=np.uint8))
SETTINGS = {"seed": 0, "number": NUMBER, "label": None}


def opened(target, force=False, **settings):
    drawn = Drawn(NUMBER, (3, 5, 6), torch.tensor([2, 0, 1]), ("a", "b", "c"))
    return Resumable(image_writer(target, drawn, 3), {**SETTINGS, **settings}, force)


def write(output, batches=3):
    """Write that many batches more."""
    for _ in range(batches):
        output.write(PIXELS[output.done : output.done + BATCH])


def whole(target):
    with opened(target) as output:
        write(output)
        output.finish()
    return content(target)


def content(target):
    if target.is_file():
        return target.read_bytes()
    return {path.name: path.read_bytes() for path in target.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batches", range(4))
def test_one_that_was_killed_after_any_batch_becomes_the_same(tmp_path, kind, batches):
    expected = whole(tmp_path / "whole" / kind)
    with opened(tmp_path / kind) as output:
        write(output, batches)
        if batches < 3:  # killed after a batch was written and before the journal says so
            output.writer.write(output.done, 255 - PIXELS[output.done : output.done + BATCH])
    journal = tmp_path / f"{kind}.partial.jsonl"
    journal.write_bytes(journal.read_bytes() + b"[9")
    with opened(tmp_path / kind) as output:
        assert output.done == min(NUMBER, batches * BATCH)
        write(output, 3 - batches)
        output.finish()
    assert content(tmp_path / kind) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kind, "whole"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_one_that_was_killed_while_it_was_finished_becomes_the_same(tmp_path, kind, moment, monkeypatch):
    expected = whole(tmp_path / "whole" / kind)

    def die(*_):
        raise KeyboardInterrupt

    def cut_off():
        with opened(tmp_path / kind) as output:
            write(output)
            if moment == "before":
                monkeypatch.setattr(os, "replace", die)
            else:
                monkeypatch.setattr(Journal, "end", die)
            output.finish()
            raise KeyboardInterrupt  # a folder needs no renaming at its end

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    monkeypatch.undo()
    if not (kind == "images" and moment == "before"):
        with opened(tmp_path / kind) as output:
            assert output.done == NUMBER
            output.finish()
    assert content(tmp_path / kind) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kind, "whole"])


def test_an_image_that_went_missing_is_drawn_again(tmp_path):
    expected = whole(tmp_path / "whole")
    with opened(tmp_path / "images") as output:
        write(output, 2)
    (tmp_path / "images" / "000005.png").unlink()
    (tmp_path / "images" / "000006.png").write_bytes(b"")
    with opened(tmp_path / "images") as output:
        assert output.done == 5
        output.rewind(4)
        write(output, 2)
        output.finish()
    assert content(tmp_path / "images") == expected


@pytest.mark.parametrize("kind", KINDS)
def test_other_settings_are_refused_by_name_and_start_again_with_force(tmp_path, kind):
    with opened(tmp_path / kind, seed=3) as output:
        write(output, 2)
    with (
        pytest.raises(DataError, match=r"unfinished, with 8 written .*\(label: none there, cat now; seed: 3 there, 0 "),
        opened(tmp_path / kind, label="cat"),
    ):
        pass
    with opened(tmp_path / kind, seed=3) as output:
        assert output.done == 8
    with opened(tmp_path / kind, force=True) as output:
        assert output.done == 0
        write(output)
        output.finish()
    assert content(tmp_path / kind) == whole(tmp_path / "whole" / kind)


@pytest.mark.parametrize("kind", KINDS)
def test_force_goes_on_with_the_same_settings(tmp_path, kind):
    with opened(tmp_path / kind, force=True) as output:
        write(output, 1)
    with opened(tmp_path / kind, force=True) as output:
        assert output.done == BATCH


@pytest.mark.parametrize("kind", ["x.npz", "x.npy", "x.png"])
def test_a_file_stays_until_its_successor_is_whole(tmp_path, kind):
    whole(tmp_path / kind)
    (tmp_path / kind).write_bytes(b"earlier")
    with pytest.raises(DataError, match="exists already; name another with -o, or replace it with --force"):
        whole(tmp_path / kind)
    with opened(tmp_path / kind, force=True) as output:
        write(output)
        assert (tmp_path / kind).read_bytes() == b"earlier"
        output.finish()
    assert content(tmp_path / kind) == whole(tmp_path / "other" / kind)


def test_a_folder_with_other_images_is_refused_even_with_force(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"not draws, such as cat\.jpg"), opened(tmp_path / "images", force=True):
        pass
    assert os.listdir(tmp_path) == ["images"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_cannot_write_one_output(tmp_path, kind):
    with (
        opened(tmp_path / kind),
        pytest.raises(CheckpointError, match="is being written by another process"),
        opened(tmp_path / kind),
    ):
        pass


@pytest.mark.parametrize("line", [b"nonsense", b"[]", b'{"seed": 0}\n[1, "x"]'])
def test_a_damaged_journal_is_named_and_forced(tmp_path, line):
    journal = tmp_path / "x.npy.partial.jsonl"
    journal.write_bytes(line + b"\n")
    with (
        pytest.raises(CheckpointError, match=r"x\.npy\.partial\.jsonl is damaged.*--force"),
        opened(tmp_path / "x.npy"),
    ):
        pass
    with opened(tmp_path / "x.npy", force=True) as output:
        assert output.done == 0


def test_an_output_that_was_refused_leaves_nothing(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"earlier")
    with pytest.raises(DataError, match="exists already"), opened(tmp_path / "x.npy"):
        pass
    assert os.listdir(tmp_path) == ["x.npy"]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_drawn(tmp_path):
    drawn = Drawn(10**15, (3, 5, 6))
    with (
        pytest.raises(
            CheckpointError, match=r"1,000,000,000,000,000 images need .* bytes, but only .* are free.*free space"
        ),
        Resumable(image_writer(tmp_path / "x.npy", drawn), SETTINGS),
    ):
        pass


def test_an_unfinished_array_can_be_looked_at(tmp_path):
    with opened(tmp_path / "x.npz") as output:
        write(output, 2)
        found = np.load(tmp_path / "x.npz.partial", mmap_mode="r")
        assert np.array_equal(found[:8], PIXELS[:8].permute(0, 2, 3, 1).numpy())
        assert found.shape == (NUMBER, 5, 6, 3)


def test_an_npz_holds_labels_with_their_names(tmp_path):
    whole(tmp_path / "x.npz")
    found = np.load(tmp_path / "x.npz")
    assert found.files == ["images", "labels", "classes"]
    assert np.array_equal(found["images"], PIXELS.permute(0, 2, 3, 1).numpy())
    assert found["labels"].tolist() == [2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert found["classes"].tolist() == ["a", "b", "c"]


def test_a_picture_that_is_too_large_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"10,000,000 images has .* draw fewer \(-n\), or give a folder or FILE\.npz"):
        image_writer(tmp_path / "x.png", Drawn(10**7, (1, 28, 28)))


@pytest.mark.parametrize("name", ["x.jpg", "x.tar.gz", "x.zip", "x.csv"])
def test_the_end_of_another_kind_of_file_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"images are not written as .*; give a folder of PNGs, FILE\.npz"):
        image_writer(tmp_path / name, Drawn(1, (1, 4, 4)))


def test_the_journal_says_what_is_drawn(tmp_path):
    with opened(tmp_path / "x.npy") as output:
        write(output, 1)
    lines = (tmp_path / "x.npy.partial.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [SETTINGS, [4, 0]]


def test_the_folder_that_one_is_in_can_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with opened(Path()) as output:
        write(output)
        output.finish()
    assert len(os.listdir(tmp_path / "here")) == NUMBER
    with pytest.raises(DataError, match="the root folder is not an output"), opened(Path("/")):
        pass
