import re

import numpy as np
import pytest
import torch
from PIL import Image

from hebm.config.recipes import recipe
from hebm.data.archives import open_files
from hebm.data.dataset_recipe import ImageData
from hebm.data.image_files import FileImages
from hebm.errors import DataError


@recipe
class Plain(ImageData):
    """No images of its own."""

    def source(self, split):
        raise NotImplementedError


def put(folder, name, size=(8, 8), mode="L", value=100):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, value, value)).save(path)
    return path


def images_in(folder, shape, skip=False):
    """As a data set of other kinds of file has them."""
    return FileImages(open_files(folder), shape, Plain().decoder(shape), skip)


def test_all_files_below_are_read_by_name_in_the_models_shape(tmp_path):
    put(tmp_path, "b.png", value=50)
    put(tmp_path, "a/z.PNG", mode="RGB", size=(20, 16), value=200)
    put(tmp_path, ".hidden/x.png")
    (tmp_path / "notes.txt").write_text("no image")
    images = images_in(tmp_path, (1, 8, 8))
    assert images.names == ["a/z.PNG", "b.png"]
    pixels = ((images.read(torch.arange(2)) + 1) * 127.5).round()
    assert pixels.shape == (2, 1, 8, 8)
    assert np.unique(pixels[0]).tolist() == [200.0]
    assert np.unique(pixels[1]).tolist() == [50.0]


def test_a_damaged_file_is_named_or_left_out(tmp_path):
    put(tmp_path, "good.png")
    (tmp_path / "bad.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"bad\.png: cannot be read as an image .*; fix or remove it, .*--corrupt skip"):
        images_in(tmp_path, (1, 8, 8))
    images = images_in(tmp_path, (1, 8, 8), skip=True)
    assert images.names == ["good.png"]
    assert re.fullmatch(
        r"left out 1 of 2 files, which cannot be read as images:\n  .*bad\.png: cannot be read as an image \(.*\)",
        images.note,
    )


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no image files; put \.png"):
        images_in(tmp_path, (1, 8, 8))
    (tmp_path / "bad.png").write_bytes(b"junk")
    with pytest.raises(
        DataError, match=r"no image files that can be read; put .*\nleft out 1 of 1 files.*\n.*bad\.png: cannot"
    ):
        images_in(tmp_path, (1, 8, 8), skip=True)


def test_only_square_images_are_resized(tmp_path):
    put(tmp_path, "right.png", size=(8, 4))
    assert images_in(tmp_path, (1, 4, 8)).read(torch.arange(1)).shape == (1, 1, 4, 8)
    put(tmp_path, "wrong.png", size=(16, 8))
    with pytest.raises(DataError, match=r"wrong\.png: is 16×8 pixels, the model's images are 8×4"):
        images_in(tmp_path, (1, 4, 8)).read(torch.arange(2))
