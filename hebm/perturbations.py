"""Perturbations of an energy's input and features in training: dropout, shifts and rounding.

A `Perturbation` is a module that returns its input unchanged. `EnergyFn.perturbed(noise)` returns a view of an energy
in which these modules perturb, with random numbers from `noise`. Training uses the view; chains, scores and evaluation
use the energy itself.

References:
    Dropout: Srivastava et al. 2014.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from torch import Tensor, nn

from hebm.noise import Noise
from hebm.pixel_levels import from_pixels, to_pixels

M = TypeVar("M", bound=nn.Module)


class Perturbation(nn.Module, ABC):
    """A module that is the identity, except in a training view of an energy, which sets its `noise`."""

    noise: Noise | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x `(B, …)`, perturbed in a training view."""
        return x if self.noise is None else self.perturb(x, self.noise)

    @abstractmethod
    def perturb(self, x: Tensor, noise: Noise) -> Tensor:
        """Return perturbed x. Draw by `noise.…(len(x), …)` only, so that row i uses row i of the noise."""


class Dropout(Perturbation):
    """x m / (1 − p) with an independent mask m ~ Bernoulli(1 − p) for every element.

    Arguments:
        rate: p, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def perturb(self, x: Tensor, noise: Noise) -> Tensor:
        """Return x with some elements dropped and the others scaled up."""
        if not self.rate:
            return x
        kept = noise.uniform(*x.shape) >= self.rate
        return x * kept / (1 - self.rate)


class Shift(Perturbation):
    """Shift the map of each row in both directions by random numbers of pixels in {−s, …, s}, and repeat its edges.

    Arguments:
        pixels: s.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def perturb(self, x: Tensor, noise: Noise) -> Tensor:
        """Return shifted maps `(B, C, H, W)`."""
        if not self.pixels:
            return x
        by = noise.integers(2 * self.pixels + 1, len(x), 2) - self.pixels
        return _moved(_moved(x, by[:, 0], 2), by[:, 1], 3)


def _moved(x: Tensor, by: Tensor, dim: int) -> Tensor:
    """Return x `(B, C, H, W)` with row b moved by `by[b]` pixels along `dim`."""
    size = x.shape[dim]
    source = (torch.arange(size, device=x.device) - by.unsqueeze(1)).clamp(0, size - 1)
    shape = [len(x), 1, 1, 1]
    shape[dim] = size
    return x.gather(dim, source.view(shape).expand_as(x))


class Rounding(Perturbation):
    """Round images to 8-bit levels, x = v/127.5 − 1 with v ∈ {0, …, 255}; gradients pass unchanged.

    Stored draws are 8-bit images. Without rounding, an energy could tell new draws from stored ones.
    """

    def perturb(self, x: Tensor, noise: Noise) -> Tensor:
        """Return the nearest 8-bit image."""
        return from_pixels(to_pixels(x.detach()), x.detach()) + (x - x.detach())


def view(module: M, noise: Noise) -> M:
    """Return a copy of a module that shares parameters and buffers, and whose perturbations draw from `noise`."""
    if not any(isinstance(part, Perturbation) for part in module.modules()):
        return module
    twin = copy.copy(module)
    twin.__dict__["_modules"] = {name: part and view(part, noise) for name, part in module._modules.items()}
    if isinstance(twin, Perturbation):
        twin.noise = noise
    return twin
