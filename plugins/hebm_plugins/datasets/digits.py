"""The 1,797 real handwritten digits of 8×8 pixels that come with scikit-learn: no download."""

from __future__ import annotations

import torch

from hebm.config.recipes import recipe
from hebm.data.dataset_recipe import ImageData
from hebm.data.images import ArrayImages

TEST_EVERY = 6


@recipe
class Digits(ImageData):
    """8×8 grey digits, levels 0 … 16 spread over 0 … 255. Every sixth image (5, 11, …) is test: 1,498 and 299."""

    def source(self, split: str) -> ArrayImages:
        """Read the images from scikit-learn's package."""
        from sklearn.datasets import load_digits  # slow to import

        digits = load_digits()
        test = torch.arange(len(digits.images)) % TEST_EVERY == TEST_EVERY - 1
        mine = test if split == "test" else ~test
        levels = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)
        labels = torch.from_numpy(digits.target)
        return ArrayImages(levels[mine].unsqueeze(1), labels[mine], tuple(map(str, range(10))))
