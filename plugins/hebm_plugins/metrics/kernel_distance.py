"""The kernel distance, an unbiased measure that accompanies the Fréchet distance when there are few images.

    MMD² = E[k(x, x')] + E[k(y, y')] − 2 E[k(x, y)],        k(a, b) = (aᵀb / F + 1)³

for features x of images of a kind, y of the data, and x', y' of other images of each. The mean over all pairs is
unbiased for any N, and may be negative. Its standard error is that of the mean of two times

    h(x_i) = mean_{j≠i} k(x_i, x_j) − mean_j k(x_i, y_j),   and likewise h(y_i),

the first-order part of the estimate, which vanishes if both distributions are equal. KID is the mean of the same
estimate over random subsets, in Inception's features.

References:
    Demystifying MMD GANs, arXiv 1801.01401.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import DATA
from hebm.evaluation.metric import Measurement, Scalar
from hebm.evaluation.references import even_places

MOST = 2000
"""The largest number of images of each set, spread evenly over the set, since data may be sorted by class."""
_NOTE = "unbiased in the number of images, which the Fréchet distance is not"


class KernelDistance(NamedTuple):
    """An estimate of MMD² and its standard error."""

    value: float
    error: float


def kernel_distance(x: Tensor, y: Tensor) -> KernelDistance:
    """Return MMD² of features `(N, F)` and `(M, F)`, at least two of each."""
    x, y = x.double(), y.double()
    cross = _kernel(x, y)
    of_x, of_y = _mean_of_others(_kernel(x, x)) - cross.mean(1), _mean_of_others(_kernel(y, y)) - cross.mean(0)
    error = 2 * (of_x.var() / len(x) + of_y.var() / len(y)).sqrt()
    return KernelDistance(float(of_x.mean() + of_y.mean()), float(error))


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_of_others(kernel: Tensor) -> Tensor:
    """Return the mean of each row without its diagonal entry, `(N,)`."""
    return (kernel.sum(1) - torch.diagonal(kernel)) / (len(kernel) - 1)


def measured(evaluation: Evaluation, kind: str, extractor: str) -> Measurement:
    """Measure `kernel-distance` of a kind of images to the data, in an extractor."""
    x, y = (evaluation.features(each, extractor=extractor) for each in (kind, DATA))
    value, error = kernel_distance(*(each[even_places(len(each), MOST)] for each in (x, y)))
    conditions: dict[str, Scalar] = {"extractor": extractor, "most": MOST}
    return Measurement(
        "kernel-distance", value, "kernel distance", error, kind=kind, better="lower", conditions=conditions, note=_NOTE
    )
