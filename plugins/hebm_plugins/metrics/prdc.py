"""Precision, recall, density and coverage: fidelity and variety of draws, separately.

For features x_i of N images of the data and y_j of N images of a kind, and r_k(x_i) the distance of x_i to its k-th
nearest other x (r_k(y_j) likewise):

    precision   (1/N) Σ_j 1[y_j is in the ball B(x_i, r_k(x_i)) of some i]
    recall      (1/N) Σ_i 1[x_i is in the ball B(y_j, r_k(y_j)) of some j]
    density     (1/kN) Σ_j Σ_i 1[y_j ∈ B(x_i, r_k(x_i))]
    coverage    (1/N) Σ_i 1[B(x_i, r_k(x_i)) contains some y_j]

For two samples of one distribution, density is 1 on average and coverage 1 − 2⁻ᵏ; density may exceed 1. An outlier of
the data has a wide ball, in which all draws count for precision; density and coverage hardly change.

References:
    Improved Precision and Recall Metric for Assessing Generative Models, arXiv 1904.06991, equations 1 to 3.
    Reliable Fidelity and Diversity Metrics for Generative Models, arXiv 2002.09797, equations 3, 5 and 6.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import DATA
from hebm.evaluation.metric import SHARE, Measurement, MetricRecipe
from hebm.evaluation.plan import EvaluationPlan
from hebm_plugins.neighbours import blocks, squared_distances, squared_radii

_ROUNDING = 1 + 1e-9
"""Points at the very border of a ball are inside, whatever the rounding."""


class Counts(NamedTuple):
    """Contributions of single images, float64; their means are the four measures.

    Arguments:
        precision: of each y, `(N,)`, 0 or 1.
        recall: of each x, `(N,)`, 0 or 1.
        density: of each y, `(N,)`: the number of balls around x that contain it, divided by k.
        coverage: of each x, `(N,)`, 0 or 1.
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


@recipe
class PRDC(MetricRecipe):
    """Precision, recall, density and coverage of each kind, from nearest neighbours in features; see the module.

    Higher is better. The same number of images is used of each kind and of the data. The errors of precision, recall
    and density are s/√N over single images. They take the balls as given, so the error over new data is larger.
    Coverage has no error, since its balls and their content depend on each other. Sources: arXiv 1904.06991 and
    2002.09797.

    Example:
        >>> PRDC(k=10).k
        10
    """

    k: int = option(5, low=1, doc="neighbours that decide the balls of density and coverage (Naeem et al.: 5)")
    k_precision: int = option(
        3, low=1, doc="neighbours that decide the balls of precision and recall (Kynkäänniemi et al.: 3)"
    )

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the first extractor. Raises `ConfigError` for fewer images than neighbours."""
        plan.extractor()
        self._require(plan.fewest)
        return []

    def _require(self, n: int) -> None:
        key, k = max(("k", self.k), ("k_precision", self.k_precision), key=lambda each: each[1])
        if n <= k:
            raise ConfigError(
                f"evaluate.metrics: prdc finds {key} = {k} neighbours of each image, which needs more than {k} images; "
                f'there are {n}: use more images (evaluate.samples) or {{type = "prdc", {key} = {max(1, n - 1)}}}'
            )

    def image_counts(self, plan: EvaluationPlan) -> dict[str, int]:
        """Return the number of images of each kind."""
        return {kind: plan.count(kind) for kind in (DATA, *plan.kinds)}

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `precision`, `recall`, `density` and `coverage` of each kind."""
        n = evaluation.fewest
        self._require(n)
        real = evaluation.features(DATA)[:n].double()
        centre = real.mean(0)
        real = real - centre
        radii = squared_radii(real, max(self.k, self.k_precision))
        found = []
        for kind in evaluation.kinds:
            counts = self.counts(real, radii, evaluation.features(kind)[:n].double() - centre)
            found += self._measurements(evaluation, kind, counts)
        return found

    def counts(self, real: Tensor, radii: Tensor, drawn: Tensor) -> Counts:
        """Return what single images contribute to the four measures.

        Arguments:
            real: features x, centred, float64 `(N, F)`.
            radii: squared distances of each to its neighbours, `(N, K)` (see `squared_radii`).
            drawn: features y, float64 `(N, F)`.
        """
        wide, narrow = radii[:, self.k - 1] * _ROUNDING, radii[:, self.k_precision - 1] * _ROUNDING
        around_drawn = squared_radii(drawn, self.k_precision)[:, -1] * _ROUNDING
        precise, balls = torch.zeros(len(drawn), dtype=torch.bool), torch.zeros(len(drawn), dtype=torch.int64)
        recalled, covered = (torch.zeros(len(real), dtype=torch.bool) for _ in range(2))
        for few in blocks(len(real), len(drawn)):
            squared = squared_distances(real[few], drawn)
            inside = squared <= wide[few, None]
            balls += inside.sum(0)
            covered[few] = inside.any(1)
            precise |= (squared <= narrow[few, None]).any(0)
            recalled[few] = (squared <= around_drawn).any(1)
        return Counts(precise.double(), recalled.double(), balls.double() / self.k, covered.double())

    def _measurements(self, evaluation: Evaluation, kind: str, counts: Counts) -> list[Measurement]:
        name, found = evaluation.extractor().name, []
        for measure, values in counts._asdict().items():
            found.append(
                Measurement(
                    measure,
                    values.mean().item(),
                    measure,
                    error=None if measure == "coverage" else (values.std() / len(values) ** 0.5).item(),
                    unit="" if measure == "density" else SHARE,
                    kind=kind,
                    better="higher",
                    conditions={
                        "extractor": name,
                        "k": self.k_precision if measure in ("precision", "recall") else self.k,
                    },
                )
            )
        return found
