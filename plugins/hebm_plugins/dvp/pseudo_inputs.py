"""Pseudo-inputs: a small image c of an image x, drawn from r(c|x) = N(f(x), diag e^λ), and the map back to x's size.

f is fixed (`DCT`, `Downsample`) or learned (`Linear`). λ is learned, with one value per element of c. Its stored values
are clamped to [−12, −5]. The clamp is not part of the gradient, so λ cannot get stuck at a bound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from hebm.data.images import Images
from hebm.interfaces import ImageSpec
from hebm.noise import Noise
from hebm_plugins.dvp.blocks import resized
from hebm_plugins.dvp.dct import dct2, idct2
from hebm_plugins.dvp.log_normal import log_normal

BOUNDS = (-12.0, -5.0)
"""Bounds of the log variance λ of r(c|x)."""
_ROWS = 500
"""Batch size for statistics."""


class PseudoInput(nn.Module, ABC):
    """r(c|x), and the map from c to an image.

    Arguments:
        images: shape of x.
        size: S; c is `(C, S, S)`.
        log_var: initial λ.
    """

    def __init__(self, images: ImageSpec, size: int, log_var: float) -> None:
        super().__init__()
        self.height, self.width = images.height, images.width
        self.shape = (images.channels, size, size)
        self.log_var = nn.Parameter(torch.full(self.shape, log_var))

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """Return f(x), `(B, C, S, S)` of x `(B, C, H, W)` in [−1, 1]."""

    def image(self, c: Tensor) -> Tensor:
        """Return the image of c with the size of x, `(B, C, H, W)`, by default by bilinear interpolation."""
        return resized(c, (self.height, self.width))

    def fit(self, images: Images, most: int | None) -> None:
        """Fit the parameters of f to the first `most` training images, or to all. The default does nothing."""

    def spread(self) -> Tensor:
        """Return λ, `(C, S, S)`, within its bounds."""
        if not self.training:
            return self.log_var.clamp(*BOUNDS)
        with torch.no_grad():
            self.log_var.clamp_(*BOUNDS)
        return self.log_var

    def draw(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draw c ~ r(c|x), reparameterised, and log r(c|x) `(B,)`."""
        mean, log_var = self.mean(x), self.spread()
        c = mean + (0.5 * log_var).exp() * noise.normal(len(x), *self.shape)
        return c, log_normal(c, mean, log_var).flatten(1).sum(1)


class DCT(PseudoInput):
    """f(x) = clip(DCT((x + 1)/2)[:S, :S] / scale, −1, 1), the orthonormal DCT-II of each channel.

    `scale` is the largest |⌊DCT⌋| of each coefficient over training images, and at least 1, since it would be 0 for a
    coefficient that is always in [0, 1). The floor is taken before the absolute value, so no negative coefficient of
    these images is clipped; positive ones may be.
    """

    scale: Tensor

    def __init__(self, images: ImageSpec, size: int, log_var: float) -> None:
        super().__init__(images, size, log_var)
        self.register_buffer("scale", torch.ones(self.shape))

    def coefficients(self, x: Tensor) -> Tensor:
        """Return the lowest frequencies of (x + 1)/2, `(B, C, S, S)`."""
        return dct2(0.5 * (x + 1), self.shape[-1])

    def mean(self, x: Tensor) -> Tensor:
        """Return the scaled coefficients, clipped to [−1, 1]."""
        return (self.coefficients(x) / self.scale).clamp(-1, 1)

    def image(self, c: Tensor) -> Tensor:
        """Return 2 clip(IDCT(scale · c), 0, 1) − 1."""
        return 2 * idct2(self.scale * c, self.height, self.width).clamp(0, 1) - 1

    @torch.no_grad()
    @override
    def fit(self, images: Images, most: int | None) -> None:
        count = len(images) if most is None else min(most, len(images))
        greatest = torch.zeros(self.shape, device=self.scale.device)
        for start in range(0, count, _ROWS):
            x = images.read(torch.arange(start, min(start + _ROWS, count))).to(greatest)
            greatest = torch.maximum(greatest, self.coefficients(x).floor().abs().amax(0))
        self.scale.copy_(greatest.clamp(min=1))


class Downsample(PseudoInput):
    """f(x) = x at S × S pixels, by bilinear interpolation without antialiasing."""

    def mean(self, x: Tensor) -> Tensor:
        """Interpolate x to S × S pixels."""
        return resized(x, (self.shape[-2], self.shape[-1]))


class Linear(PseudoInput):
    """f(x) = A x + b, learned, where x is the vector of all pixels and colours."""

    def __init__(self, images: ImageSpec, size: int, log_var: float) -> None:
        super().__init__(images, size, log_var)
        self.layer = nn.Linear(images.channels * images.height * images.width, images.channels * size * size)

    def mean(self, x: Tensor) -> Tensor:
        """Return the layer's outputs as a map."""
        found: Tensor = self.layer(x.flatten(1)).unflatten(1, self.shape)
        return found


PSEUDO_INPUTS: dict[str, Callable[[ImageSpec, int, float], PseudoInput]] = {
    "dct": DCT,
    "downsample": Downsample,
    "linear": Linear,
}
