"""Mixture of discretised logistics for colour images (PixelCNN++, arXiv 1701.05517), in the form of NVAE.

Each pixel has a mixture of M components with weights π_m. In a component, each colour is logistic given the colours
before it:

    R ~ L(μ_R, s_R),   G ~ L(μ_G + c_0 R, s_G),   B ~ L(μ_B + c_1 R + c_2 G, s_B)

The probability of a level x is the mass between the midpoints to its neighbours, σ((x + h − μ)/s) − σ((x − h − μ)/s)
with h = 1 / (2^b − 1). The lowest and the highest level include the tails.
"""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from hebm.errors import ConfigError
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm_plugins.pixels.bits import reduce_bits
from hebm_plugins.precision import full_precision

MARGIN = 1e-5
"""Smallest distance of the uniform numbers from 0 and from 1."""


@attrs.frozen
class MixtureScoring:
    """The details in which published implementations differ. The defaults are those of NVAE.

    Arguments:
        least, greatest: bounds of the log scales; `greatest` is None for no upper bound.
        lowest, highest: an x below or above these includes the tail. NVAE's value at 8 bits also counts level 254
            (0.992) as highest.
        thin: a mass below this is computed as density times width, which avoids cancellation. None clamps the mass to
            at least 1e-10.
        spread: spread the 2^b levels evenly over [−1, 1], 2h apart. False keeps the places that they have among the
            8-bit levels, as VDVAE does. For b < 8 they are then closer than 2h, the bins overlap, and `log_prob` is
            not a log probability: for b = 5 the masses of all levels sum to about 1.03.
    """

    least: float = -7.0
    greatest: float | None = None
    lowest: float = -0.999
    highest: float = 0.99
    thin: float | None = 1e-5
    spread: bool = True


NVAE_SCORING = MixtureScoring()


class LogisticMixturePixels(PixelDistribution):
    """p(x|z) over colour images with 2^b levels per colour. `log_prob` first reduces images to b bits.

    Arguments:
        parameters: `(B, 10M, H, W)`: M mixture logits, then for each colour M means, M log scales and M
            coefficients before tanh. The coefficients of colours 0, 1 and 2 are c_0, c_1 and c_2.
        bits: b, from 1 to 8.
        scoring: bounds of the scales, and the treatment of tails and small masses.

    Raises `ConfigError` if the number of channels is not a positive multiple of ten.
    """

    discrete = True

    def __init__(self, parameters: Tensor, bits: int = 8, scoring: MixtureScoring = NVAE_SCORING) -> None:
        if parameters.shape[1] % 10 or not parameters.shape[1]:
            raise ConfigError(
                f"likelihood: a mixture of M logistics over colour images takes 10 M channels of parameters, "
                f"got {parameters.shape[1]}"
            )
        count = parameters.shape[1] // 10
        self.logits, rest = torch.split(full_precision(parameters), [count, 9 * count], dim=1)
        self.means, log_scales, coefficients = torch.unflatten(rest, 1, (3, 3 * count)).chunk(3, dim=2)
        self.log_scales, self.coefficients = log_scales.clamp(scoring.least, scoring.greatest), coefficients.tanh()
        self.bits, self.scoring = bits, scoring
        super().__init__(self.means[:, :, 0])

    @property
    def scale(self) -> str:
        """The scale: bits per dimension are comparable with published ones for the same number of bits."""
        if self.bits < 8 and not self.scoring.spread:
            return f"VDVAE's score of {self.bits}-bit images, whose bins overlap: not bits per dimension of any coder"
        return f"probability of {self.bits}-bit images: bits per dimension of {self.bits}-bit images"

    @property
    def mean(self) -> Tensor:
        """The colours at the averages of μ and c over π, `(B, 3, H, W)` in [−1, 1]: as published, not quite E[x]."""
        weights = self.logits.softmax(1).unsqueeze(1)
        return _coloured((weights * self.means).sum(2), (weights * self.coefficients).sum(2))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_pixels log p(x), `(B,)`, for value `(B, 3, H, W)` in [−1, 1]."""
        return self.log_prob_map(value).flatten(1).sum(1)

    def log_prob_map(self, value: Tensor) -> Tensor:
        """Return log Σ_m π_m Π_colours p_m(x), per pixel, `(B, H, W)`."""
        x = reduce_bits(value, self.bits, self.scoring.spread).unsqueeze(2)
        red, green, _ = x.unbind(1)
        c0, c1, c2 = self.coefficients.unbind(1)
        shifts = torch.stack((torch.zeros_like(c0), c0 * red, c1 * red + c2 * green), dim=1)
        masses = _log_mass(x, self.means + shifts, self.log_scales, 2**self.bits - 1, self.scoring)
        return (masses.sum(1) + self.logits.log_softmax(1)).logsumexp(1)

    def draw(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """Draw a sample, `(B, 3, H, W)` in [−1, 1], not rounded to levels (as published)."""
        mixture, logistic = noise.uniform(*self.logits.shape), noise.uniform(*self.means[:, :, 0].shape)
        return self.from_uniforms(_inside(mixture), _inside(logistic), temperature)

    def from_uniforms(self, mixture: Tensor, logistic: Tensor, temperature: float = 1.0) -> Tensor:
        """Map uniform numbers to a sample: m = argmax(log π / t − log(−log u)), x = μ + (s/t) log(v / (1 − v)).

        Arguments:
            mixture: u, `(B, M, H, W)` in (0, 1).
            logistic: v, `(B, 3, H, W)` in (0, 1).
            temperature: t. It also divides s, as in the published code, so t < 1 spreads levels more. The published
                samples use t = 1.
        """
        chosen = (self.logits / temperature - (-mixture.log()).log()).argmax(1, keepdim=True)
        index = chosen.unsqueeze(1).expand(-1, 3, -1, -1, -1)
        means, log_scales, coefficients = (
            p.gather(2, index).squeeze(2) for p in (self.means, self.log_scales, self.coefficients)
        )
        return _coloured(means + log_scales.exp() / temperature * logistic.logit(), coefficients)


def _inside(uniform: Tensor) -> Tensor:
    """Map [0, 1) into (0, 1)."""
    return MARGIN + (1 - 2 * MARGIN) * uniform


def _coloured(x: Tensor, coefficients: Tensor) -> Tensor:
    """Add the contribution of the previous colours to each colour, and clamp to [−1, 1]."""
    c0, c1, c2 = coefficients.unbind(1)
    red = x[:, 0].clamp(-1, 1)
    green = (x[:, 1] + c0 * red).clamp(-1, 1)
    blue = (x[:, 2] + c1 * red + c2 * green).clamp(-1, 1)
    return torch.stack((red, green, blue), dim=1)


def _log_mass(x: Tensor, mean: Tensor, log_scale: Tensor, intervals: int, scoring: MixtureScoring) -> Tensor:
    """Return the log mass of level x, `(B, 3, M, H, W)`. The spacing of levels is 2 / intervals."""
    error, precision = x - mean, (-log_scale).exp()
    above, below, middle = (precision * (error + shift) for shift in (1 / intervals, -1 / intervals, 0))
    mass = above.sigmoid() - below.sigmoid()
    inner = mass.clamp(min=1e-10).log()
    if scoring.thin is not None:
        density = middle - log_scale - 2 * F.softplus(middle) - math.log(intervals / 2)
        inner = torch.where(mass > scoring.thin, inner, density)
    upper = torch.where(x > scoring.highest, F.logsigmoid(-below), inner)
    return torch.where(x < scoring.lowest, F.logsigmoid(above), upper)
