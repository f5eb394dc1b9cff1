"""Levels t of a diffusion as features: sinusoids, and small nets on them (arXiv 2405.13910)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm_plugins.energies.spectral_norm import LinearMap

SINUSOIDS = 128
"""The number of features of a level, as published."""

_LONGEST = 10000.0


def sinusoids(t: Tensor | None, like: Tensor) -> Tensor:
    """Return [cos(t w_k), sin(t w_k)], w_k = 10000^(−k/64), k = 0 … 63, `(B, 128)`, with the type and device of `like`.

    Arguments:
        t: levels `(B,)`, or None for level 0, which gives one row.
        like: any tensor of the wanted type and device.
    """
    level = like.new_zeros(1) if t is None else t.to(like)
    half = SINUSOIDS // 2
    exponents = torch.arange(half, dtype=like.dtype, device=like.device) / half
    angles = level[:, None] * torch.exp(-math.log(_LONGEST) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def distinct(t: Tensor | None) -> Tensor | None:
    """Return t, or only its first entry if all are equal: a chain at one level needs its features once."""
    return t[:1] if t is not None and bool((t == t[0]).all()) else t


class TimeMLP(nn.Module):
    """W_2 silu(W_1 e).

    Arguments:
        outputs: features of both layers.
        spectral: normalise the weights.
        bias: add biases.
    """

    def __init__(self, outputs: int, spectral: bool, bias: bool = False) -> None:
        super().__init__()
        self.first = LinearMap(SINUSOIDS, outputs, spectral, bias)
        self.second = LinearMap(outputs, outputs, spectral, bias)

    def forward(self, e: Tensor) -> Tensor:
        """Return features `(B, outputs)` of sinusoids e `(B, 128)`."""
        features: Tensor = self.second(F.silu(self.first(e)))
        return features
