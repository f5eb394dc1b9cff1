"""Fréchet distances to real images, in each extractor that the settings name."""

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
    """FD of each kind of images to the data, in each extractor. Lower is better.

    Where images are few for the number of features, FD comes out too large; an unbiased kernel distance is then
    measured too.
    """

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the extractors, and say where images are few for the number of features."""
        return few_images_notes(plan)

    def image_counts(self, plan: EvaluationPlan) -> dict[str, int]:
        """Return the number of images of each kind."""
        return {kind: plan.count(kind) for kind in (DATA, *plan.kinds)}

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `fd` of each kind in each extractor, and `kernel-distance` where images are few."""
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
    return few_for(evaluation.fewest, extractor, evaluation.extractor(extractor).widths["features"])


def few_images_notes(plan: EvaluationPlan, extractors: Iterable[ExtractorRecipe | str] = ()) -> list[str]:
    """Check extractors, and return a warning for each whose features are many for the number of images.

    Arguments:
        plan: of the evaluation.
        extractors: those that are used; left out: the settings'.
    """
    used = [plan.extractor(which) for which in extractors or plan.settings.extractors]
    notes = [few_for(plan.fewest, name_of(recipe), recipe.width) for recipe in used if recipe.width is not None]
    return [note for note in notes if note]
