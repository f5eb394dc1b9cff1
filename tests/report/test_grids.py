import numpy as np
import pytest
import torch
from PIL import Image

from hebm.errors import CheckpointError
from hebm.report.grids import SMALLEST, save_grid, save_strip, tiled


def read(path):
    return np.asarray(Image.open(path))


def test_small_images_are_enlarged_by_a_whole_factor_and_keep_every_pixel(tmp_path):
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    save_grid(images, tmp_path / "new" / "grid.png", columns=3)
    picture = read(tmp_path / "new" / "grid.png")
    assert picture.shape == (2 * 34 + 2, 3 * 34 + 2, 3)
    second = picture[2:34, 36:68]
    expected = ((images[1, 0] + 1) * 127.5).round().numpy()
    assert np.array_equal(second[::4, ::4, 0], expected)
    assert np.array_equal(second.reshape(8, 4, 8, 4, 3).max((1, 3)), second.reshape(8, 4, 8, 4, 3).min((1, 3)))


@pytest.mark.parametrize(("side", "enlarged"), [(8, 32), (28, 56), (32, 32), (64, 64)])
def test_every_tile_is_at_least_the_smallest_size(side, enlarged):
    picture = tiled(torch.zeros(1, 3, side, side), 8)
    assert picture.shape == (3, enlarged + 4, enlarged + 4)
    assert enlarged >= SMALLEST


def test_an_image_that_is_not_finite_is_red_and_its_neighbours_are_untouched():
    images = torch.zeros(3, 1, 32, 32)
    images[1, 0, 0, 0] = torch.nan
    picture = tiled(images, 3)
    assert picture[:, 20, 50].tolist() == [214, 39, 40]
    assert picture[:, 20, 20].tolist() == picture[:, 20, 90].tolist() == [128, 128, 128]


def test_a_strip_has_a_row_per_chain_and_a_column_per_step(tmp_path):
    frames = [torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 32, 32) * k for k in (0.0, 0.5, 1.0)]
    save_strip(frames, tmp_path / "strip.png")
    picture = read(tmp_path / "strip.png")[::34, ::34, 0][:, :]
    centres = read(tmp_path / "strip.png")[18::34, 18::34, 0]
    assert picture.max() == 255
    assert centres.tolist() == [[128, 64, 0], [128, 191, 255]]


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot write .*grid\.png"):
        save_grid(torch.zeros(1, 1, 8, 8), tmp_path / "file" / "grid.png")
