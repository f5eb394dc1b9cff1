"""Images that a metric shows on the page of a run, next to its numbers."""

from __future__ import annotations

import attrs
from torch import Tensor


@attrs.frozen(eq=False)
class Illustration:
    """A grid of images, passed to `Evaluation.show`.

    Arguments:
        title: what it shows.
        caption: how to read it.
        images: `(N, C, H, W)` in [−1, 1].
        columns: images in a row.
    """

    title: str
    caption: str
    images: Tensor
    columns: int = 8
