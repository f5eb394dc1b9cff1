"""Fréchet distances to real images, in each extractor that the settings name."""

from __future__ import annotations

from collections.abc import Mapping

from hebm.config.recipes import recipe
from hebm.data.images import Images
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.jackknife import Estimate
from hebm.evaluation.kinds import DATA, GAUSSIAN, PRIOR, RECONSTRUCTION
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.evaluation.settings import EvaluateSettings

MEASURED = (GAUSSIAN, PRIOR, RECONSTRUCTION)
"""The kinds of images that are compared with the data."""


@recipe
class FrechetDistance(MetricRecipe):
    """FD of the backbone's own prior, the learned one and reconstructions, in each extractor. Lower is better."""

    def check(self, images: Mapping[str, Images], settings: EvaluateSettings) -> None:
        """Raise `ConfigError` where an extractor is not suited to the images."""
        settings.check_extractors(images["train"])

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `fd` of each kind in each extractor."""
        return [
            frechet(evaluation, kind, extractor, distance)
            for kind in MEASURED
            for extractor, distance in evaluation.distances(kind).items()
        ]


def frechet(evaluation: Evaluation, kind: str, extractor: str, distance: Estimate) -> Measurement:
    """Return a Fréchet distance as a measurement, with a note where the images are few for the number of features.

    Arguments:
        evaluation: has the images.
        kind: of images.
        extractor: by its name.
        distance: of these images to the data.
    """
    return Measurement(
        "fd",
        distance.value,
        "Fréchet distance",
        distance.error,
        kind=kind,
        better="lower",
        conditions={"extractor": extractor},
        note=few_images(evaluation, extractor),
    )


def few_images(evaluation: Evaluation, extractor: str) -> str:
    """Return a warning where N is below twice the number of features, else ""."""
    n = min(evaluation.count(DATA), evaluation.count(PRIOR))
    width = evaluation.extractor(extractor).widths["features"]
    if n >= 2 * width:
        return ""
    return (
        f"{n} images are few for the {width} features of {extractor}: the distance comes out too large; "
        f"use {2 * width} or more"
    )
