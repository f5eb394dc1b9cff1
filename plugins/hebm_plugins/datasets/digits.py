"""The 1,797 real handwritten digits of 8×8 pixels that come with scikit-learn: no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hebm.config.recipes import recipe
from hebm.data.dataset_recipe import ImageData
from hebm.data.images import ArrayImages
from hebm.errors import DataError

TEST_EVERY = 6
_FILE = "datasets/data/digits.csv.gz"
"""The table of scikit-learn's `load_digits`: 64 levels and the label in each row."""


@recipe
class Digits(ImageData):
    """8×8 grey digits, levels 0 … 16 spread over 0 … 255. Every sixth image (5, 11, …) is test: 1,498 and 299."""

    def source(self, split: str) -> ArrayImages:
        """Read the images from scikit-learn's package."""
        table = _table()
        test = torch.arange(len(table)) % TEST_EVERY == TEST_EVERY - 1
        mine = test if split == "test" else ~test
        levels = table[mine, :-1].mul(255 / 16).round().to(torch.uint8)
        return ArrayImages(levels.view(-1, 1, 8, 8), table[mine, -1].long(), tuple(map(str, range(10))))


def _table() -> Tensor:
    """Return 64 levels and the label of each digit, float64 `(1797, 65)`.

    Its file is read without importing scikit-learn, which takes a second. If scikit-learn has moved the file, its own
    function reads it.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError('the data set "digits" needs scikit-learn: pip install scikit-learn')
    file = Path(package.origin).parent / _FILE
    if not file.is_file():
        from sklearn.datasets import load_digits

        digits = load_digits()
        return torch.from_numpy(np.column_stack((digits.data, digits.target)))
    try:
        return torch.from_numpy(np.loadtxt(file, delimiter=","))
    except (OSError, ValueError) as error:
        raise DataError(f'the data set "digits" cannot be read: {error}; reinstall scikit-learn') from error
