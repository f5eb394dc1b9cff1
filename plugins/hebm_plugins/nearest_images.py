"""Compare the distances of draws to the training images with those of test images.

A draw that copies a training image is much nearer to it than a new image of the data. With the distance d_i of draw i
to its nearest training image, and the quantile t_q of the same distances of test images:

    share(q) = (1/N) Σ_i 1[d_i ≤ t_q],    which is q for new images from the distribution of the data
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.extractors import Extractor
from hebm.pixel_levels import from_pixels, to_pixels
from hebm_plugins.neighbours import Neighbours, nearest

COPIES = (
    "A draw that copies a training image is much nearer to it than a test image is. Simple, smooth or typical images "
    "are also near to others, so compare the draws in the pictures with the training images next to them"
)


@attrs.frozen
class Closer:
    """The share of draws that are nearer to the training images than a quantile of test images.

    Arguments:
        quantile: q, the share of test images that are as near.
        share: p, the share of draws that are as near.
        error: √(p(1 − p)/N + q(1 − q)/M) for N draws and M test images, exact for large N and M if p = q.
    """

    quantile: float
    share: float
    error: float

    @property
    def suspicious(self) -> bool:
        """Whether the share exceeds the quantile by more than two standard errors."""
        return self.share - self.quantile > 2 * self.error


def closer(draws: Tensor, test: Tensor, quantile: float) -> Closer:
    """Return the share of draws whose distance `(N,)` is at most a quantile of the distances `(M,)` of test images."""
    share = float((draws <= test.quantile(quantile)).double().mean())
    variance = share * (1 - share) / len(draws) + quantile * (1 - quantile) / len(test)
    return Closer(quantile, share, variance**0.5)


def distances(found: Neighbours) -> Tensor:
    """Return the distance of each query to its nearest point, `(N,)`."""
    return found.squared[:, 0].sqrt()


@attrs.frozen(eq=False)
class Space:
    """The space of the distances: the features of an extractor, or pixels from −1 to 1.

    Arguments:
        extractor: extractor of the features; None for pixels.
    """

    extractor: Extractor | None

    @property
    def name(self) -> str:
        """The name of the space in captions."""
        return "pixels" if self.extractor is None else f"features of {self.extractor.name}"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map uint8 images `(B, C, H, W)` to points `(B, F)`."""
        if self.extractor is None:
            return from_pixels(pixels, torch.empty(0)).flatten(1)
        return self.extractor(pixels)["features"].cpu()

    def points(self, pixels: Tensor, rows: int) -> Tensor:
        """Map uint8 images to points, in batches of `rows`."""
        return torch.cat([self(pixels[start : start + rows]) for start in range(0, len(pixels), rows)])


def nearest_of(evaluation: Evaluation, points: Mapping[str, Tensor], space: Space, k: int) -> dict[str, Neighbours]:
    """Find the k nearest of all training images for each point. The processes share the search.

    Arguments:
        evaluation: the evaluation, with its training images.
        points: points `(N, F)` by name.
        space: space of the points.
        k: number of neighbours, at most the number of training images.
    """
    found = nearest(torch.cat([*points.values()]), _stream(evaluation, space), k).joined(evaluation.processes)
    sizes = [len(each) for each in points.values()]
    parts = zip(*(torch.split(part, sizes) for part in found), strict=True)
    return {name: Neighbours(*part) for name, part in zip(points, parts, strict=True)}


def _stream(evaluation: Evaluation, space: Space) -> Iterator[tuple[int, Tensor]]:
    """Yield the points of each batch of training images of this process, with the number of its first image."""
    train = evaluation.splits["train"]
    for start, rows in evaluation.batches("training images compared", len(train)):
        yield start, space(read(train, start, rows))


def read(images: Images, start: int, rows: int) -> Tensor:
    """Read `rows` images, starting with number `start`, uint8 `(rows, C, H, W)`."""
    return to_pixels(images.read(torch.arange(start, start + rows)))


def with_neighbours(pixels: Tensor, found: Neighbours, train: Images) -> Tensor:
    """Return each image followed by its neighbours, `(N, 1 + k, C, H, W)` in [−1, 1].

    Arguments:
        pixels: the images, uint8 `(N, C, H, W)`.
        found: neighbours of the images.
        train: the training images.
    """
    near = torch.stack([train.read(row) for row in found.points])
    return torch.cat([from_pixels(pixels, near)[:, None], near], dim=1)


def chosen(found: Neighbours, rows: Tensor) -> Neighbours:
    """Return the neighbours of the queries with these numbers."""
    return Neighbours(found.squared[rows], found.points[rows])
