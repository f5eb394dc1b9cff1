"""A page shows whole pictures, says which are missing, and refuses damaged ones."""

import os

import pytest
import torch

from hebm.errors import CheckpointError, DataWarning
from hebm.report.grids import save_grid
from hebm.report.picture_files import picture_address


@pytest.fixture
def picture(tmp_path):
    save_grid(torch.rand(4, 1, 8, 8), tmp_path / "grid.png")
    return tmp_path / "grid.png"


def test_a_picture_becomes_an_address(picture):
    assert picture_address(picture, "hebm evaluate").startswith("data:image/png;base64,iVBOR")


def test_a_missing_one_is_a_warning_that_says_what_makes_it(tmp_path):
    with pytest.warns(DataWarning, match=r"none\.png is missing.*hebm evaluate makes it again"):
        assert picture_address(tmp_path / "none.png", "hebm evaluate") is None


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty"])
def test_a_damaged_one_is_an_error_that_names_it(picture, damage):
    data = picture.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
    picture.write_bytes({"cut": data[:middle], "flip": flipped, "text": b"[1]", "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=r"grid\.png is damaged .* make it again with hebm evaluate"):
        picture_address(picture, "hebm evaluate")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_a_folder_and_a_link_to_nothing_are_errors_that_name_them(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "none")
    for name in ("pipe.png", "folder.png", "link.png"):
        with pytest.raises(CheckpointError, match=f"cannot read .*{name}"):
            picture_address(tmp_path / name, "hebm evaluate")
