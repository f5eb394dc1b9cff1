"""A grid of images that a metric shows on a run's page, next to its numbers."""

from __future__ import annotations

import attrs
from torch import Tensor


@attrs.frozen(eq=False)
class Illustration:
    """A grid of images, passed to `Evaluation.show`.

    Arguments:
        title: title of the grid.
        caption: explanation of how to read it.
        images: the images, `(N, C, H, W)` in [−1, 1].
        columns: number of images in a row.
    """

    title: str
    caption: str
    images: Tensor
    columns: int = 8
