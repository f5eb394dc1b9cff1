"""Latent layers that are maps `(c, h, w)`, and what convolutions of kernel 4, stride 2, padding 1 leave of them.

Such a convolution takes a side h to ⌊h/2⌋.
"""

from __future__ import annotations

from hebm.errors import ConfigError
from hebm.latents import LatentLayout

Shape = tuple[int, ...]


def halvings_to(shape: Shape, smallest: int) -> int:
    """Return how often to halve a map `(c, h, w)` until its longer side is at most `smallest`: 16 → 8 → 4, 14 → 7 → 3.

    It stops before a side would vanish; 0 for a map that is small already.
    """
    longer, shorter = max(shape[1:]), min(shape[1:])
    return min((longer // (smallest + 1)).bit_length(), shorter.bit_length() - 1)


def cells(shape: Shape, n: int) -> int:
    """Return the number of positions of a map `(c, h, w)` after n halvings."""
    return (shape[1] >> n) * (shape[2] >> n)


def expect_maps(layout: LatentLayout, name: str, instead: str, side: int = 1) -> None:
    """Raise `ConfigError` unless every layer is a map.

    Arguments:
        layout: of the backbone.
        name: of the energy.
        instead: of an energy for any layers.
        side: the least that both sides must be.
    """
    for shape in layout.shapes:
        if len(shape) != 3 or min(shape[1:]) < side:
            raise ConfigError(
                f"prior.energy: {name!r} needs latent layers of shape (channels, height, width) with both sides from "
                f'{side} on, this backbone has one of shape {shape}; use prior.energy.type = "{instead}"'
            )
