"""Fréchet distances to real images, in each extractor of the settings."""

from __future__ import annotations

from collections.abc import Iterable

from hebm.config.recipes import recipe
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.extractors import ExtractorRecipe
from hebm.evaluation.frechet import few_for
from hebm.evaluation.jackknife import Estimate
from hebm.evaluation.kinds import DATA
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.evaluation.plan import EvaluationPlan
from hebm.registry import name_of
from hebm_plugins.metrics import kernel_distance


@recipe
class FrechetDistance(MetricRecipe):
    """FD = |m_1 − m_2|² + tr(C_1 + C_2 − 2 (C_1 C_2)^½) of the features of each kind of images and of the data.

    m and C are the mean and covariance of the features of each extractor in `evaluate.extractors`. Lower is better.
    With few images for the number of features FD is biased upwards, and an unbiased kernel distance is measured too.
    Source: arXiv 1706.08500.

    Example:
        >>> from hebm import EvaluateSettings
        >>> EvaluateSettings(metrics=(FrechetDistance(),), samples=2000).samples
        2000
    """

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the extractors, and return a note for each with few images for its number of features."""
        return few_images_notes(plan)

    def image_counts(self, plan: EvaluationPlan) -> dict[str, int]:
        """Return the number of images of each kind."""
        return {kind: plan.count(kind) for kind in (DATA, *plan.kinds)}

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `fd` of each kind in each extractor, and `kernel-distance` if there are few images."""
        found = [
            frechet(evaluation, kind, extractor, distance)
            for kind in evaluation.kinds
            for extractor, distance in evaluation.distances(kind).items()
        ]
        few = [name for name in evaluation.settings.extractor_names if few_images(evaluation, name)]
        return found + [kernel_distance.measured(evaluation, kind, name) for name in few for kind in evaluation.kinds]


def frechet(evaluation: Evaluation, kind: str, extractor: str, distance: Estimate) -> Measurement:
    """Return a Fréchet distance as a measurement, with a note where the images are few for the number of features.

    Arguments:
        evaluation: has the images.
        kind: kind of images.
        extractor: name of the extractor.
        distance: the distance of these images to the data.
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
    """Return a warning if N is below twice the number of features, otherwise ""."""
    return few_for(evaluation.fewest, extractor, evaluation.extractor(extractor).widths["features"])


def few_images_notes(plan: EvaluationPlan, extractors: Iterable[ExtractorRecipe | str] = ()) -> list[str]:
    """Check extractors, and return a warning for each with few images for its number of features.

    Arguments:
        plan: plan of the evaluation.
        extractors: the extractors to check, by default those of the settings.
    """
    used = [plan.extractor(which) for which in extractors or plan.settings.extractors]
    notes = [few_for(plan.fewest, name_of(recipe), recipe.width) for recipe in used if recipe.width is not None]
    return [note for note in notes if note]
