"""Mean and standard deviation of the latents of a data set, under q(z|x)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hebm.errors import ConfigError
from hebm.normals import Normal

SCALAR, CHANNEL, NONE = "scalar", "channel", "none"


def shape_of(mode: str, latent_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of shift and scale: one number, or one for each channel (each element of a flat layer)."""
    return (latent_shape[0], *[1] * (len(latent_shape) - 1)) if mode == CHANNEL else ()


@torch.no_grad()
def latent_moments(posteriors: Iterable[Normal], mode: str) -> Normal:
    """Return mean and standard deviation of z over images: E[μ], and √(E[μ² + σ²] − E[μ]²), in float64.

    Arguments:
        posteriors: q(z|x) of batches of images, each `(B, *latent_shape)`.
        mode: "scalar" pools all elements, "channel" pools those of a channel.

    Raises `ConfigError` if they are not finite, or a deviation is 0.
    """
    count, first, second = 0, torch.zeros(()), torch.zeros(())
    shape: tuple[int, ...] = ()
    for q in posteriors:
        mean, std = q.mean.double(), q.std.double()
        shape = shape_of(mode, tuple(mean.shape[1:]))
        first, second = first + _pooled(mean, shape), second + _pooled(mean.square() + std.square(), shape)
        count += mean.numel() // max(1, shape[0] if shape else 1)
    mean = first / count
    std = (second / count - mean.square()).sqrt()
    if not bool((mean.isfinite() & (std > 0)).all()):
        raise ConfigError("AutoEncoder: the latents of the training images are constant or not finite; check encode")
    return Normal(mean.reshape(shape), std.reshape(shape))


def _pooled(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the sum of values `(B, *latent_shape)` over images and positions, of each channel if `shape` has them."""
    return values.transpose(0, 1).flatten(1).sum(1).cpu() if shape else values.sum().cpu()
