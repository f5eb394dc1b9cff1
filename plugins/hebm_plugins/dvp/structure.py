"""The sizes of the ladder: resolutions of the latents, and widths of the nets."""

from __future__ import annotations

import attrs

from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec


@attrs.frozen
class Scale:
    """One resolution that has latents.

    Arguments:
        size: height and width.
        latents: number of latent layers.
        channels: channels of the encoder's and decoder's features.
    """

    size: tuple[int, int]
    latents: int
    channels: int


def scales_of(
    images: ImageSpec, latents: tuple[int, ...], channels: int, growth: float, at_full_resolution: bool
) -> tuple[Scale, ...]:
    """Return the scales from finest to coarsest, each with half the resolution of the one before.

    Arguments:
        images: their size.
        latents: layers of each scale, the coarsest first.
        channels: channels of the finest scale.
        growth: factor of the channels from one scale to the next coarser one, rounded down.
        at_full_resolution: whether the finest scale has the image's resolution, instead of half of it.

    Raises `ConfigError` for a scale without latents or channels, or sides that do not divide.
    """
    if not latents or min(latents) < 1:
        raise ConfigError(
            f"backbone.latents: {list(latents)} has a scale without latents; give at least one for each scale"
        )
    halvings = range(0 if at_full_resolution else 1, len(latents) + (0 if at_full_resolution else 1))
    factor = 2 ** halvings[-1]
    if images.height % factor or images.width % factor:
        raise ConfigError(
            f"backbone.latents: {len(latents)} scales need sides that {factor} divides, the images are "
            f"{images.height}x{images.width}; resize them, or give fewer scales"
        )
    scales = []
    for k, count in zip(halvings, reversed(latents), strict=True):
        if channels < 1:
            raise ConfigError(f"backbone.growth = {growth} leaves a scale without channels; raise it, or channels")
        scales.append(Scale((images.height >> k, images.width >> k), count, channels))
        channels = int(channels * growth)
    return tuple(scales)
