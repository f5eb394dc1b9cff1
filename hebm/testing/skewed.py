"""A density that is neither Gaussian nor isotropic, with exact draws: what a sampler must leave unchanged."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hebm.densities import LogDensity, ValueAndGrad
from hebm.noise import Noise

WEIGHT, MEANS, STDS = 0.7, (-0.5, 1.0), (0.6, 1.0)
WIDTH = 0.4
MIX = torch.tensor([[0.8, -0.5], [0.6, 1.2]], dtype=torch.float64)


class SkewedTarget(LogDensity):
    """u = A y `(B, 2)`, with y_0 ~ 0.7 N(−0.5, 0.6²) + 0.3 N(1, 1) and y_1 ~ logistic with scale 0.4.

    Arguments:
        scale: multiplies the sampler's h.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.inverse = scale, torch.linalg.inv(MIX)

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return zero: the density has no Gaussian term."""
        return ValueAndGrad(u.new_zeros(len(u)), torch.zeros_like(u))

    def remainder(self, u: Tensor) -> Tensor:
        """Return log p(u) up to a constant."""
        first, second = (u @ self.inverse.T).unbind(1)
        parts = [
            -0.5 * ((first - mean) / std).square() + math.log(weight / std)
            for mean, std, weight in zip(MEANS, STDS, (WEIGHT, 1 - WEIGHT), strict=True)
        ]
        logistic = second / WIDTH
        mixture = torch.stack(parts).logsumexp(0)
        log_p: Tensor = mixture - logistic - 2 * F.softplus(-logistic)
        return log_p


def skewed_draws(rows: int) -> Tensor:
    """Return exact draws of the density, `(rows, 2)`, always the same."""
    noise = Noise(0, "skewed", dtype=torch.float64)
    part = (noise.uniform(rows) >= WEIGHT).long()
    mean, std = (torch.tensor(pair, dtype=torch.float64)[part] for pair in (MEANS, STDS))
    first = mean + std * noise.normal(rows)
    second = WIDTH * noise.uniform(rows).logit()
    return torch.stack((first, second), dim=1) @ MIX.T
