"""Normal pixels with a learned deviation per pixel, as in the decoder of VAEBM's NVAE (arXiv 2010.00654)."""

from __future__ import annotations

import math

from torch import Tensor

from hebm.likelihoods import CONTINUOUS, PixelDistribution
from hebm.noise import Noise
from hebm_plugins.clamped import clamped_normal
from hebm_plugins.pixels.bits import reduce_bits


class ClampedNormalPixels(PixelDistribution):
    """p(x|z) = Π N(x; μ, σ²), with μ and log σ softly clamped to [−5, 5]: a density of continuous pixels.

    Arguments:
        parameters: `(B, 2C, H, W)`: C raw means, then C raw log deviations.
        log_sigma_floor: lower bound of log σ in `log_prob` (VAEBM's code: −2). Samples ignore it.
        bits: with fewer than 8, `log_prob` first reduces pixels to this number of bits. It is still a density.
    """

    scale = CONTINUOUS

    def __init__(self, parameters: Tensor, log_sigma_floor: float | None = None, bits: int = 8) -> None:
        raw_mean, raw_log_std = parameters.chunk(2, dim=1)
        self.normal = clamped_normal(raw_mean, raw_log_std)
        self.scored = clamped_normal(raw_mean, raw_log_std, log_sigma_floor)
        self.bits = bits
        super().__init__(raw_mean)

    @property
    def mean(self) -> Tensor:
        """The mean μ, clamped to [−1, 1]."""
        return self.normal.mean.clamp(-1, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ log N(x; μ, σ²), `(B,)`."""
        return self.log_prob_map(value).flatten(1).sum(1)

    def log_prob_map(self, value: Tensor) -> Tensor:
        """Return Σ_colours log N(x; μ, σ²) per pixel, `(B, H, W)`."""
        error = self.scored.standardised(value if self.bits == 8 else reduce_bits(value, self.bits))
        return (-0.5 * error.square() - self.scored.std.log() - 0.5 * math.log(2 * math.pi)).sum(1)

    def draw(self, noise: Noise) -> Tensor:
        """Draw a sample from derived noise, `(B, C, H, W)`."""
        return self.from_normals(noise.normal(*self.normal.mean.shape))

    def from_normals(self, xi: Tensor) -> Tensor:
        """Return μ + σ ξ, clamped to [−1, 1], for ξ `(B, C, H, W)`."""
        return self.normal.at(xi).clamp(-1, 1)
