"""What is drawn: how many images of what shape, and what they were asked to show."""

from __future__ import annotations

import attrs
from torch import Tensor

from hebm.data.decode import Shape


@attrs.frozen
class Drawn:
    """What is drawn.

    Arguments:
        number: of images, N.
        shape: (C, H, W) of each.
        turns: the labels that were asked for, classes `(k,)` or attributes `(k, A)`, of which image i has the
            (i mod k)-th; None if none were.
        classes: names of the classes.
        attributes: names of the attributes.
    """

    number: int
    shape: Shape
    turns: Tensor | None = None
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
