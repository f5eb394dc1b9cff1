"""Fréchet distances to real images, in the extractor that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hebm.config.recipe import recipe
from hebm.evaluate.evaluation import Evaluation
from hebm.interfaces import MetricRecipe

KINDS = ("gaussian", "prior", "reconstruction")


@recipe
class FrechetDistance(MetricRecipe):
    """FD of the backbone's own prior, of the learned one, and of reconstructions. Lower is better."""

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`fd.gaussian`, `fd.prior`, `fd.reconstruction`."""
        return {"fd": {kind: evaluation.distance(kind) for kind in KINDS}}
