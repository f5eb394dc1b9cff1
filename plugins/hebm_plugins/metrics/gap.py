"""Gap closed, beside its control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hebm.config.recipe import recipe
from hebm.data.images import Images
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.gap import gap_closed
from hebm.evaluate.metric import MetricRecipe
from hebm.evaluate.settings import EvaluateSettings
from hebm_plugins.metrics.distances import KINDS

_FACTOR, _FURTHER = 1.25, 12


@recipe
class GapClosed(MetricRecipe):
    """(FD Gaussian − FD prior) / (FD Gaussian − FD reconstruction): 0 is the backbone's own prior, 1 reconstructions.

    The control is the same figure for the Gaussian at its best temperature, 1 included: a chain that only inflates u
    closes that much, so a learned prior counts for what it adds to it.
    """

    def check(self, images: Mapping[str, Images], settings: EvaluateSettings) -> None:
        """Raise `ConfigError` where the extractor is not suited to the images."""
        settings.extractor.check(images["train"])

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`gap_closed` and `gap_closed_scaled_gaussian` (null if reconstructions are no better), `fd.*` they are of."""
        fd: dict[str, float] = {kind: evaluation.distance(kind) for kind in KINDS}
        scaled = scaled_gaussian(evaluation, fd["gaussian"])
        best = min(scaled, key=scaled.__getitem__)
        return {
            "gap_closed": gap_closed(fd["gaussian"], fd["prior"], fd["reconstruction"]),
            "gap_closed_scaled_gaussian": gap_closed(fd["gaussian"], scaled[best], fd["reconstruction"]),
            "fd": {**fd, "scaled_gaussian": scaled[best], "scaled_gaussian_temperature": float(best)},
        }


def scaled_gaussian(evaluation: Evaluation, unscaled: float) -> dict[float, float]:
    """FD by temperature: the settings' grid, and beyond its ends for as long as the best one is at an end.

    Arguments:
        evaluation: draws T(τ u) and measures them.
        unscaled: the FD at τ = 1.
    """
    grid = (t for t in evaluation.settings.temperatures if t != 1)
    found = {1.0: unscaled} | {t: evaluation.distance(("gaussian", t)) for t in grid}
    for _ in range(_FURTHER if len(found) > 1 else 0):
        best = min(found, key=found.__getitem__)
        if best not in (min(found), max(found)):
            break
        further = best * _FACTOR if best == max(found) else best / _FACTOR
        found[further] = evaluation.distance(("gaussian", further))
    return found
