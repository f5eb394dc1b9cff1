"""Fréchet distances to real images, in the extractor that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hebm.config.recipe import recipe
from hebm.data.images import Images
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.metric import MetricRecipe
from hebm.evaluate.settings import EvaluateSettings

KINDS = ("gaussian", "prior", "reconstruction")


@recipe
class FrechetDistance(MetricRecipe):
    """FD of the backbone's own prior, of the learned one, and of reconstructions. Lower is better."""

    def check(self, images: Mapping[str, Images], settings: EvaluateSettings) -> None:
        """Raise `ConfigError` where the extractor is not suited to the images."""
        settings.extractor.check(images["train"])

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`fd.gaussian`, `fd.prior`, `fd.reconstruction`."""
        return {"fd": {kind: evaluation.distance(kind) for kind in KINDS}}
