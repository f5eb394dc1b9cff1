"""Pseudo-inputs: a small picture c of an image x, drawn from r(c|x) = N(f(x), diag e^λ), and its way back to x's size.

f is fixed (`DCT`, `Downsample`) or learned (`Linear`). λ is learned, one value per element of c, clamped to [−12, −5]
where it is stored: its gradient is that of an unclamped one, and it cannot get stuck outside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hebm.data.images import Images
from hebm.interfaces import ImageSpec
from hebm.noise import Noise
from hebm_plugins.dvp.blocks import resized
from hebm_plugins.dvp.dct import dct2, idct2
from hebm_plugins.dvp.log_normal import log_normal

BOUNDS = (-12.0, -5.0)
"""Bounds of the log variance λ of r(c|x)."""
_ROWS = 500
"""Images at a time, for statistics."""


class PseudoInput(nn.Module, ABC):
    """r(c|x), and the image that stands for c.

    Arguments:
        images: shape of x.
        size: S; c is `(C, S, S)`.
        log_var: λ at the start.
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
        """Return the picture of c in x's size, `(B, C, H, W)`: bilinear interpolation, unless overridden."""
        return resized(c, (self.height, self.width))

    def fit(self, images: Images, most: int | None) -> None:
        """Fit what f needs to the first `most` training images, or to all. The default does nothing."""

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

    `scale` is per coefficient the greatest |⌊DCT⌋| over training images, at least 1: it is 0 where a coefficient
    stays within [0, 1) on all of them. The floor is taken before the absolute value, so that no negative coefficient
    of those images is clipped; positive ones may be.
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
    def fit(self, images: Images, most: int | None) -> None:
        """Set the scale."""
        count = len(images) if most is None else min(most, len(images))
        greatest = torch.zeros(self.shape, device=self.scale.device)
        for start in range(0, count, _ROWS):
            x = images.read(torch.arange(start, min(start + _ROWS, count))).to(greatest)
            greatest = torch.maximum(greatest, self.coefficients(x).floor().abs().amax(0))
        self.scale.copy_(greatest.clamp(min=1))


class Downsample(PseudoInput):
    """f(x): x at S × S pixels by bilinear interpolation, without antialiasing."""

    def mean(self, x: Tensor) -> Tensor:
        """Interpolate x to S × S pixels."""
        return resized(x, (self.shape[-2], self.shape[-1]))


class Linear(PseudoInput):
    """f(x) = A x + b, learned, over all pixels and colours at once."""

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
