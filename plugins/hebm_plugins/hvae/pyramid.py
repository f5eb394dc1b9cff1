"""The resolutions of latent layers: the image, its halvings, and a flat vector."""

from __future__ import annotations

import attrs

from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec

SMALLEST = 4
"""Smallest side of the coarsest map, in pixels."""
USUAL = 7
"""Smallest side of a spatial layer by default, in pixels."""
WIDEST = 4
"""Limit on the channels of a map, as a multiple of the channels of the first halving."""


@attrs.frozen
class Pyramid:
    """Level 0 is the image, level k its k-th halving (k ≤ depth), level depth + 1 a flat vector.

    Arguments:
        height, width: height and width of the image.
        depth: number of halvings before the flat level.
        channels: feature channels of level 1. Level 0 has half as many, higher levels twice and then four times as
            many.
        units: features of the flat level.
    """

    height: int
    width: int
    depth: int
    channels: int
    units: int

    @property
    def flat(self) -> int:
        """Return the number of the flat level."""
        return self.depth + 1

    @property
    def middle(self) -> int:
        """Return the coarsest level with sides of at least 7 pixels (7×7 or 8×8), but at least level 1."""
        return max(k for k in range(1, self.depth + 1) if k == 1 or min(self.size(k)) >= USUAL)

    def size(self, level: int) -> tuple[int, int]:
        """Return height and width of a level's map. The flat level has none."""
        return self.height >> level, self.width >> level

    def features(self, level: int) -> int:
        """Return the feature channels of a level."""
        if level == self.flat:
            return self.units
        return max(1, self.channels // 2) if level == 0 else self.channels * min(2 ** (level - 1), WIDEST)

    def shape(self, level: int, channels: int) -> tuple[int, ...]:
        """Return the shape of a latent layer: `(channels,)` if flat, otherwise `(channels, height, width)`."""
        return (channels,) if level == self.flat else (channels, *self.size(level))


def pyramid_for(images: ImageSpec, channels: int, units: int) -> Pyramid:
    """Halve while both sides are even and at least 4 afterwards: twice for 28×28, 3 times for 32×32, 4 for 64×64.

    Raises `ConfigError` for images that cannot be halved once.
    """
    sides, depth = (images.height, images.width), 0
    while all(side % 2 ** (depth + 1) == 0 and side >> (depth + 1) >= SMALLEST for side in sides):
        depth += 1
    if not depth:
        raise ConfigError(
            f"backbone: images of {images.height}x{images.width} pixels cannot be halved (both sides must be even and "
            f"at least {2 * SMALLEST}); resize or pad them, for example to 32x32"
        )
    return Pyramid(images.height, images.width, depth, channels, units)


def levels_of(strides: tuple[int, ...], pyramid: Pyramid) -> tuple[int, ...]:
    """Return the level of each layer, top first; stride 0 is the flat level.

    Raises `ConfigError` for no layers, a stride that does not divide the image, or a layer coarser than the one above.
    """
    level = {0: pyramid.flat, **{2**k: k for k in range(pyramid.depth + 1)}}
    wrong = [stride for stride in strides if stride not in level]
    if wrong or not strides:
        raise ConfigError(
            f"backbone.z_strides: {list(strides)} does not fit images of {pyramid.height}x{pyramid.width} pixels; give "
            f"one of {', '.join(map(str, level))} (0: flat) per layer, or resize the images"
        )
    levels = tuple(level[stride] for stride in strides)
    if list(levels) != sorted(levels, reverse=True):
        raise ConfigError(
            f"backbone.z_strides: {list(strides)} has a layer coarser than the one above it; "
            "layers are listed top first: flat (0) ones, then from the largest stride to the smallest"
        )
    return levels
