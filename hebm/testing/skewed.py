"""Non-Gaussian densities with exact draws, which a sampler must leave unchanged."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hebm.densities import Factor, LogDensity, ValueAndGrad
from hebm.noise import Noise

WEIGHT, MEANS, STDS = 0.7, (-0.5, 1.0), (0.6, 1.0)
WIDTH = 0.4
MIX = torch.tensor([[0.8, -0.5], [0.6, 1.2]], dtype=torch.float64)
TILT = torch.tensor([0.8, -1.2], dtype=torch.float64)


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
    """Return exact draws of `SkewedTarget`, `(rows, 2)`, the same at every call."""
    noise = Noise(0, "skewed", dtype=torch.float64)
    part = (noise.uniform(rows) >= WEIGHT).long()
    mean, std = (torch.tensor(pair, dtype=torch.float64)[part] for pair in (MEANS, STDS))
    first = mean + std * noise.normal(rows)
    second = WIDTH * noise.uniform(rows).logit()
    return torch.stack((first, second), dim=1) @ MIX.T


class FactorTarget(LogDensity):
    """log p(u) = log N(u; m, s² I) + log Φ(a·u), where m and s differ from row to row and Φ is the normal CDF.

    Arguments:
        rows: the number of rows.
        scale: multiplies the sampler's h.
    """

    def __init__(self, rows: int, scale: float = 1.0) -> None:
        noise = Noise(0, "factor", dtype=torch.float64)
        self.mean = torch.tensor([1.5, -1.0], dtype=torch.float64) + 0.5 * noise.normal(rows, 2)
        self.std = 0.4 + 0.6 * noise.uniform(rows).unsqueeze(1)
        self.scale = scale

    def factor(self) -> Factor:
        """Return m `(B, 2)` and s `(B, 1)`."""
        return Factor(self.mean, self.std)

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return −|u − m|²/(2s²) and its gradient −(u − m)/s²."""
        x = (u - self.mean) / self.std
        return ValueAndGrad(-0.5 * x.square().sum(1), -x / self.std)

    def remainder(self, u: Tensor) -> Tensor:
        """Return the log tilt log Φ(a·u), `(B,)`."""
        log_cdf: Tensor = torch.special.log_ndtr(u @ TILT)
        return log_cdf

    def draws(self) -> Tensor:
        """Return one exact draw for each row, `(B, 2)`, the same at every call.

        Let w ~ N(0, 1), u ~ N(m, s² I) and q = w − a·u. The density of u given q < 0 is p(u).
        """
        noise = Noise(0, "factor draws", dtype=torch.float64)
        mean, std = -self.mean @ TILT, (1 + self.std.squeeze(1).square() * TILT.square().sum()).sqrt()
        below = noise.uniform(len(mean)) * torch.special.ndtr(-mean / std)
        q = (mean + std * torch.special.ndtri(below)).unsqueeze(1)
        u, w = self.mean + self.std * noise.normal(len(mean), 2), noise.normal(len(mean), 1)
        gain = -self.std.square() * TILT / std.square().unsqueeze(1)
        given: Tensor = u + gain * (q - w + (u @ TILT).unsqueeze(1))
        return given
