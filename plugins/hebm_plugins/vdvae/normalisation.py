"""Standardise the encoder's input by one mean and one deviation, over all pixels and colours of a data set."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from hebm.data.images import Images

_PIXELS = 2**22
"""Number of values that are read at a time for statistics."""


class Constants(NamedTuple):
    """Mean and deviation of pixels, in levels 0 to 255."""

    mean: float
    std: float


PUBLISHED: Mapping[str, Constants] = {
    "cifar10": Constants(120.63838, 64.16736),
    "imagenet32": Constants(116.2373, 69.37404),
    "imagenet64": Constants(115.92961967, 69.37404),
    "ffhq256": Constants(112.8666757481, 69.84780273),
    "ffhq1024": Constants(0.4387 * 255, 0.2743 * 255),
}
"""The constants of the published code, by data set."""


class Normalisation(nn.Module, ABC):
    """(p − mean) / std, with p = 127.5 (x + 1)."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map images in [−1, 1] to the encoder's input, of the same shape."""

    def fit(self, images: Images) -> None:
        """Measure what is not given. The default does nothing."""


class Given(Normalisation):
    """Standardise by given constants.

    Arguments:
        constants: in levels 0 to 255.
    """

    def __init__(self, constants: Constants) -> None:
        super().__init__()
        self.constants = constants

    @override
    def forward(self, x: Tensor) -> Tensor:
        return (127.5 * (x + 1) - self.constants.mean) / self.constants.std

    @override
    def extra_repr(self) -> str:
        return f"mean={self.constants.mean}, std={self.constants.std}"


class Measured(Normalisation):
    """Standardise by mean and deviation of the training images, before binarisation. They are buffers.

    Until they are measured, x itself is the encoder's input.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(127.5))
        self.register_buffer("std", torch.tensor(127.5))

    @override
    def forward(self, x: Tensor) -> Tensor:
        return (127.5 * (x + 1) - self.mean) / self.std

    @torch.no_grad()
    def fit(self, images: Images) -> None:
        """Set both buffers from all training images."""
        total = square = torch.zeros((), dtype=torch.float64)
        count, rows = 0, max(1, _PIXELS // math.prod(images.shape))
        for start in range(0, len(images), rows):
            x = images.read(torch.arange(start, min(start + rows, len(images)))).double()
            total, square, count = total + x.sum(), square + x.square().sum(), count + x.numel()
        mean = total / count
        std = (square / count - mean.square()).clamp(min=1e-6).sqrt()
        self.mean.copy_(127.5 * (mean + 1))
        self.std.copy_(127.5 * std)
