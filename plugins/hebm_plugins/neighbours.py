"""Find nearest neighbours by Euclidean distance, in blocks of bounded memory.

Squared distances are computed in float64 as ‖a − b‖² = ‖a‖² + ‖b‖² − 2 aᵀb. Centre the points first for accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hebm.evaluation.shares import Processes

_BLOCK = 2**22
"""Number of distances in a block, 32 MiB in float64."""


class Neighbours(NamedTuple):
    """The nearest points to each of N queries, nearest first.

    Arguments:
        squared: squared distances, float64 `(N, k)`, padded with infinity if there are fewer than k points.
        points: numbers of the points, int64 `(N, k)`, padded with −1 if there are fewer than k points.
    """

    squared: Tensor
    points: Tensor

    def joined(self, processes: Processes) -> Neighbours:
        """Return the nearest points over all processes, each of which has searched its own points."""
        if processes.gather is None:
            return self
        squared, points = (torch.cat(processes.gather(part).chunk(processes.world), 1) for part in self)
        return _first(squared, points, self.squared.shape[1])


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return ‖a_i − b_j‖², `(A, B)`, for float64 points `(A, F)` and `(B, F)`."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)


def blocks(n: int, across: int) -> Iterator[slice]:
    """Yield slices of n rows, so that a slice with `across` numbers per row fits into a block."""
    rows = max(1, _BLOCK // max(1, across))
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def squared_radii(points: Tensor, k: int) -> Tensor:
    """Return the squared distances of each point to its k nearest other points, nearest first, `(N, k)`.

    Arguments:
        points: float64 `(N, F)`, N > k.
        k: number of neighbours.
    """
    found = []
    for few in blocks(len(points), len(points)):
        squared = squared_distances(points[few], points)
        squared[torch.arange(len(squared)), torch.arange(few.start, few.stop)] = torch.inf
        found.append(squared.topk(k, largest=False).values)
    return torch.cat(found)


def nearest(queries: Tensor, stream: Iterable[tuple[int, Tensor]], k: int) -> Neighbours:
    """Find the k nearest points to each query among points that come in batches.

    Arguments:
        queries: query points `(N, F)`.
        stream: batches of points `(B, F)`, each with the number of its first point.
        k: number of neighbours.
    """
    centre = queries.double().mean(0)
    queries = queries.double() - centre
    squared = torch.full((len(queries), k), torch.inf, dtype=torch.float64)
    index = torch.full((len(queries), k), -1)
    for start, points in stream:
        centred = points.double() - centre
        for few in blocks(len(queries), len(points)):
            there = squared_distances(queries[few], centred).topk(min(k, len(points)), largest=False)
            both = torch.cat([squared[few], there.values], 1), torch.cat([index[few], start + there.indices], 1)
            squared[few], index[few] = _first(*both, k)
    return Neighbours(squared, index)


def _first(squared: Tensor, points: Tensor, k: int) -> Neighbours:
    """Return the k nearest of the candidates `(N, K)`. Ties keep the order of the candidates."""
    order = squared.argsort(dim=1, stable=True)[:, :k]
    return Neighbours(squared.gather(1, order), points.gather(1, order))
