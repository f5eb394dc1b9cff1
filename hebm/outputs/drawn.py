"""The number, shape and labels of images to draw."""

from __future__ import annotations

import attrs
from torch import Tensor

from hebm.data.decode import Shape


@attrs.frozen
class Drawn:
    """The number, shape and labels of images to draw.

    Arguments:
        number: number of images, N.
        shape: (C, H, W) of each image.
        turns: the requested labels, classes `(k,)` or attributes `(k, A)`. Image i has label i mod k. None without
            labels.
        classes: names of the classes.
        attributes: names of the attributes.
    """

    number: int
    shape: Shape
    turns: Tensor | None = None
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
