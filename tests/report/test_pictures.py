"""The pictures that an evaluation drew, next to each other."""

import pytest
from finished_run import finished_run
from PIL import Image

from hebm.errors import HebmError
from hebm.report.pictures import sample_pictures, side_by_side


def test_the_grids_of_an_evaluation_are_shown_side_by_side(tmp_path):
    folder = finished_run(tmp_path)
    whole = sample_pictures(folder)
    with Image.open(folder.samples / "data.png") as opened:
        data = opened.convert("RGB")
    assert whole.crop((0, 16, data.width, 16 + data.height)).tobytes() == data.tobytes()
    assert whole.size == (4 * data.width + 3 * 12, 16 + data.height)


def test_a_run_without_an_evaluation_has_no_pictures(tmp_path):
    assert sample_pictures(finished_run(tmp_path, with_samples=False)) is None


def test_a_damaged_picture_is_named(tmp_path):
    folder = finished_run(tmp_path)
    (folder.samples / "prior.png").write_bytes(b"junk")
    with pytest.raises(HebmError, match=r"prior\.png is damaged: .*make it again with hebm evaluate"):
        sample_pictures(folder)


def test_pictures_in_a_row_keep_their_pixels():
    red, blue = Image.new("RGB", (4, 6), "red"), Image.new("RGB", (5, 3), "blue")
    row = side_by_side({"": red, " ": blue})
    assert row.size == (4 + 12 + 5, 6 + 16)
    assert row.getpixel((0, 16)) == (255, 0, 0)
    assert row.getpixel((16, 16)) == (0, 0, 255)
