"""What a metric promises where it cannot measure: `check` says so before training."""

from __future__ import annotations

from typing import Any

from hebm.errors import HebmError, NeedsModelError
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.interfaces import Backbone, ImageSpec
from hebm.testing.evaluations import FULL, SmallEvaluation, SmallGivenImages, given_images, subjects
from hebm.testing.model_states import unchanged
from hebm.testing.promises import promise

FEWEST = 2
"""The least number of images of an evaluation."""


def check_notes(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """`check` returns a list of notes, each a line of text, or raises a `HebmError`; it leaves the model alone."""
    for name, subject in subjects(images, backbone).items():
        plan = subject.evaluation().plan
        fix = "return [] or a list of notes, and raise ConfigError for what does not fit"
        with unchanged("check", backbone=plan.backbone, prior=plan.prior):
            try:
                found: Any = recipe.check(plan)
            except HebmError:
                continue
            except Exception as error:
                promise(False, f"notes, or a HebmError ({name})", f"{type(error).__name__}: {error}", fix)
        promise(isinstance(found, (list, tuple)), f"a list of notes ({name})", repr(found), fix)
        strange = [repr(note) for note in found if not isinstance(note, str) or len(note.strip().splitlines()) != 1]
        promise(not strange, f"notes of one line ({name})", ", ".join(strange[:3]), fix)


def check_few_images(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Two images are measured, or `check` refuses them before training."""
    evaluation = subjects(images, backbone)[FULL].evaluation(samples=FEWEST)
    computed(recipe, evaluation, f"{FEWEST} images")


def check_given_images(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Images that no run made are measured, as `evaluation.kinds` names them; or `NeedsModelError` is raised."""
    try:
        computed(recipe, given_images(images), "images that no run made")
    except NeedsModelError:
        return


def computed(recipe: MetricRecipe, evaluation: SmallEvaluation | SmallGivenImages, name: str) -> list[Measurement]:
    """Return what a metric measures, or nothing where `check` refuses; an error of `compute` breaks a promise.

    Arguments:
        recipe: of the metric.
        evaluation: what it is tried on.
        name: of the evaluation, for errors.
    """
    try:
        recipe.check(evaluation.plan)
    except HebmError:
        return []
    try:
        return list(recipe.compute(evaluation))
    except NeedsModelError:
        raise
    except Exception as error:
        seen = f"check accepts, and compute raises {type(error).__name__}: {error} ({name})"
        fix = "raise ConfigError in check(plan), or return a measurement without a value and with a note"
        promise(False, "measurements, or a HebmError before training that says what is missing", seen, fix)
        raise
