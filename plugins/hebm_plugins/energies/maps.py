"""Sizes of latent maps `(c, h, w)` after convolutions with kernel 4, stride 2 and padding 1.

Such a convolution maps a side h to ⌊h/2⌋.
"""

from __future__ import annotations

from hebm.errors import ConfigError
from hebm.latents import LatentLayout

Shape = tuple[int, ...]


def halvings_to(shape: Shape, smallest: int) -> int:
    """Return how often to halve a map `(c, h, w)` until its longer side is at most `smallest`: 16 → 8 → 4, 14 → 7 → 3.

    Halving stops before a side becomes 0. The result is 0 for a map that is small enough.
    """
    longer, shorter = max(shape[1:]), min(shape[1:])
    return min((longer // (smallest + 1)).bit_length(), shorter.bit_length() - 1)


def cells(shape: Shape, n: int) -> int:
    """Return the number of positions of a map `(c, h, w)` after n halvings."""
    return (shape[1] >> n) * (shape[2] >> n)


def expect_maps(layout: LatentLayout, name: str, instead: str, side: int = 1) -> None:
    """Raise `ConfigError` unless every layer is a map.

    Arguments:
        layout: the backbone's latent layout.
        name: name of the energy, for the message.
        instead: name of an energy that fits any layers.
        side: the smallest height and width allowed.
    """
    for shape in layout.shapes:
        if len(shape) != 3 or min(shape[1:]) < side:
            raise ConfigError(
                f"prior.energy: {name!r} needs latent layers of shape (channels, height, width), height and width at "
                f'least {side}; this backbone has a layer of shape {shape}; use prior.energy.type = "{instead}"'
            )
