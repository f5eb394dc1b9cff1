"""Fréchet distances to real images, in the extractor that the settings name."""

from __future__ import annotations

from collections.abc import Mapping

from hebm.config.recipes import recipe
from hebm.data.images import Images
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import GAUSSIAN, PRIOR, RECONSTRUCTION
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.evaluation.settings import EvaluateSettings

MEASURED = (GAUSSIAN, PRIOR, RECONSTRUCTION)
"""The kinds of images that are compared with the data."""


@recipe
class FrechetDistance(MetricRecipe):
    """FD of the backbone's own prior, of the learned one, and of reconstructions. Lower is better."""

    def check(self, images: Mapping[str, Images], settings: EvaluateSettings) -> None:
        """Raise `ConfigError` where the extractor is not suited to the images."""
        settings.extractor.check(images["train"])

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `fd` of each kind."""
        return [frechet(evaluation, kind, evaluation.distance(kind)) for kind in MEASURED]


def frechet(evaluation: Evaluation, kind: str, distance: float) -> Measurement:
    """Return a Fréchet distance in the settings' extractor as a measurement."""
    conditions = {"extractor": evaluation.extractor().name}
    return Measurement("fd", distance, "Fréchet distance", kind=kind, better="lower", conditions=conditions)
