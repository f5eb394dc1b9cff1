"""Gap closed, beside its control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hebm.config.recipe import recipe
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.gap import gap_closed
from hebm.interfaces import MetricRecipe
from hebm_plugins.metrics.distances import KINDS


@recipe
class GapClosed(MetricRecipe):
    """(FD Gaussian − FD prior) / (FD Gaussian − FD reconstruction): 0 is the backbone's own prior, 1 reconstructions.

    The control is the same figure for the Gaussian at its best temperature, 1 included: a chain that only inflates u
    closes that much, so a learned prior counts for what it adds to it.
    """

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`gap_closed` and `gap_closed_scaled_gaussian` (null if reconstructions are no better), `fd.*` they are of."""
        fd: dict[str, float] = {kind: evaluation.distance(kind) for kind in KINDS}
        scaled = {1.0: fd["gaussian"]}
        scaled |= {t: evaluation.distance(("gaussian", t)) for t in evaluation.settings.temperatures if t != 1}
        best = min(scaled, key=scaled.__getitem__)
        return {
            "gap_closed": gap_closed(fd["gaussian"], fd["prior"], fd["reconstruction"]),
            "gap_closed_scaled_gaussian": gap_closed(fd["gaussian"], scaled[best], fd["reconstruction"]),
            "fd": {**fd, "scaled_gaussian": scaled[best], "scaled_gaussian_temperature": float(best)},
        }
