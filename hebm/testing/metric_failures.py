"""Check that a metric that cannot measure something says so in `check`, before training."""

from __future__ import annotations

from typing import Any

from hebm.errors import HebmError, NeedsModelError
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.interfaces import Backbone, ImageSpec
from hebm.testing.evaluations import FULL, SmallEvaluation, SmallGivenImages, given_images, subjects
from hebm.testing.model_states import unchanged
from hebm.testing.promises import expect

FEWEST = 2
"""Smallest number of images of an evaluation."""


def check_notes(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `check` returns a list of one-line notes or raises a `HebmError`, and leaves the model unchanged."""
    for name, subject in subjects(images, backbone).items():
        plan = subject.evaluation().plan
        fix = "return a list of notes, which may be empty, or raise ConfigError for an unsuitable model"
        with unchanged("check", backbone=plan.backbone, prior=plan.prior):
            try:
                found: Any = recipe.check(plan)
            except HebmError:
                continue
            except Exception as error:
                expect(False, f"notes, or a HebmError, from check ({name})", f"{type(error).__name__}: {error}", fix)
        expect(isinstance(found, (list, tuple)), f"a list of notes from check ({name})", repr(found), fix)
        strange = [repr(note) for note in found if not isinstance(note, str) or len(note.strip().splitlines()) != 1]
        expect(not strange, f"notes that are one line of text ({name})", ", ".join(strange[:3]), fix)


def check_few_images(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that two images can be measured, or that `check` rejects them before training."""
    evaluation = subjects(images, backbone)[FULL].evaluation(samples=FEWEST)
    computed(recipe, evaluation, f"{FEWEST} images")


def check_given_images(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `compute` measures images from outside a run, or raises `NeedsModelError`."""
    try:
        computed(recipe, given_images(images), "images that no run made")
    except NeedsModelError:
        return


def computed(recipe: MetricRecipe, evaluation: SmallEvaluation | SmallGivenImages, name: str) -> list[Measurement]:
    """Return the measurements, or none if `check` raises a `HebmError`. An error in `compute` is a failure.

    Arguments:
        recipe: recipe of the metric.
        evaluation: evaluation to measure.
        name: name of the evaluation, for messages.
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
        seen = f"check passes, but compute raises {type(error).__name__}: {error} ({name})"
        fix = "raise ConfigError in check(plan), or return a measurement with value None and a note"
        expect(False, "measurements, or a HebmError from check(plan) that says what is missing", seen, fix)
        raise
