"""The plan of an evaluation, which metrics check before training.

A metric reads from the plan what it needs. If only given images are measured, there is no model: the backbone, the
prior and the images that a model draws raise `NeedsModelError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.draws import Draw
from hebm.errors import ConfigError, HebmError, NeedsModelError, PluginError
from hebm.evaluation.extractors import ExtractorRecipe, require_one
from hebm.evaluation.kinds import DATA, GAUSSIAN, PRIOR, RECONSTRUCTION, SAMPLES
from hebm.evaluation.metric import MetricRecipe, called
from hebm.evaluation.settings import EvaluateSettings
from hebm.interfaces import Backbone, ImageSpec, PriorLearner
from hebm.trained import evaluating
from hebm.transitions import ROOT, require_start


@attrs.frozen(eq=False, slots=False)
class EvaluationPlan:
    """An evaluation before anything is trained.

    Arguments:
        images: the data set by split, "train" and "test".
        spec: the description of the images that the backbone gets.
        settings: the `[evaluate]` table, with extractors filled in.
        backbone: the backbone with its initial weights; None if only given images are measured.
        prior: the prior with its initial weights, or None likewise.
        given: the given images; None if a model is measured.
    """

    images: Mapping[str, Images]
    spec: ImageSpec
    settings: EvaluateSettings
    _backbone: Backbone | None = None
    _prior: PriorLearner | None = None
    given: Images | None = None
    _used: dict[str, ExtractorRecipe] = attrs.field(factory=dict, init=False)

    # ------------------------------------------------------------ read by metrics

    @property
    def backbone(self) -> Backbone:
        """The backbone. Raises `NeedsModelError` if only images were given."""
        if self._backbone is None:
            raise NeedsModelError("needs a trained model (its backbone), but only images were given")
        return self._backbone

    @property
    def prior(self) -> PriorLearner:
        """The prior. Raises `NeedsModelError` if only images were given."""
        if self._prior is None:
            raise NeedsModelError("needs a trained model (its prior), but only images were given")
        return self._prior

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of images to compare with the data, equal to `Evaluation.kinds`."""
        return (GAUSSIAN, PRIOR, RECONSTRUCTION) if self.given is None else (SAMPLES,)

    def require(self, *kinds: str) -> None:
        """Raise `NeedsModelError` if the evaluation will lack images of one of these kinds."""
        lacking = [kind for kind in kinds if kind not in (DATA, *self.kinds)]
        if lacking:
            raise NeedsModelError(
                f"needs a trained model (its images of kind {' and '.join(lacking)}), but only images were given"
            )

    @property
    def fewest(self) -> int:
        """The smallest number of images of any kind, including the data."""
        return min(self.count(kind) for kind in (DATA, *self.kinds))

    def count(self, kind: str) -> int:
        """Return the number of images of a kind. Data and reconstructions are limited by the size of the split.

        Raises `NeedsModelError` for a kind that the evaluation will lack.
        """
        self.require(kind)
        if kind == SAMPLES and self.given is not None:
            return len(self.given)
        most = len(self.images[self.settings.split])
        return min(self.settings.samples, most) if kind in (DATA, RECONSTRUCTION) else self.settings.samples

    def extractor(self, which: ExtractorRecipe | str | None = None) -> ExtractorRecipe:
        """Check an extractor that `Evaluation.extractor` will load, and return its recipe.

        Arguments:
            which: a recipe, or a name; None for the first of the settings.

        Raises `HebmError` if it does not suit the images, if its weights cannot be used, or if another recipe of the
        same name is in use.
        """
        own = self.settings
        recipe = own.extractor_called(which) if isinstance(which, str) else which or own.extractors[0]
        new = recipe not in self._used.values()
        require_one(self._used, recipe)
        if new:
            self._check(recipe)
        return recipe

    def _check(self, recipe: ExtractorRecipe) -> None:
        recipe.check(self.images["train"])

    @property
    def _like(self) -> Tensor:
        """A tensor on the backbone's device and of its type."""
        return next(self.backbone.parameters(), torch.zeros(()))

    @cached_property
    def likelihood(self) -> Any:
        """The distribution p(x|z) of one image at u = 0, to look up its family; its parameters are untrained."""
        zero = self.backbone.layout.zeros(self._like)
        with evaluating(self.backbone):
            return self.backbone.likelihood(self.backbone.latents(zero.u, zero.context))

    def check_transitions(self) -> None:
        """Raise `ConfigError` if a chain cannot run, or if the prior does not support the requested draws.

        `evaluate.after` and `evaluate.start_proposals` request them.
        """
        planned = self.prior.planned_transitions(self.backbone)
        at = self.backbone.layout.zeros(self._like)
        with evaluating(self.backbone, self.prior):
            for transition in planned:
                transition.check(Draw(at.u, at.context))
        require_start(planned, self.settings.start_proposals, "evaluate.start_proposals")
        after, names = self.settings.after, (ROOT, *(transition.name for transition in planned))
        if after is not None and after not in names:
            raise ConfigError(
                f"evaluate.after: this prior has no transition {after!r}; it has {', '.join(map(repr, names))}"
            )

    def check(self) -> tuple[str, ...]:
        """Check all metrics and return their notes without duplicates.

        Raises `HebmError` with the errors of all metrics.
        """
        notes: dict[str, None] = {}
        errors: dict[str, HebmError] = {}
        for metric in self.settings.metrics:
            try:
                notes |= dict.fromkeys(_notes(metric, metric.check(self)))
            except NeedsModelError as error:
                refused = NeedsModelError(f"evaluate.metrics: {called(metric)} {error}; {self._without_model()}")
                errors.setdefault(str(refused), refused)
            except HebmError as error:
                errors.setdefault(str(error), error)
        if len(errors) > 1:
            raise ConfigError("\n".join(errors))
        for only in errors.values():
            raise only
        return tuple(notes)

    def _without_model(self) -> str:
        """Return advice that names the metrics that need no model."""
        names = ", ".join(f'"{called(metric)}"' for metric in self.settings.metrics if not self.needs_model(metric))
        return f"use evaluate.metrics = [{names}]" if names else "name another metric in evaluate.metrics"

    def needs_model(self, metric: MetricRecipe) -> bool:
        """Return whether a metric needs a model that the plan lacks."""
        try:
            metric.check(self)
        except NeedsModelError:
            return True
        except HebmError:  # `check` reports it
            return False
        return False


def _notes(metric: MetricRecipe, returned: Any) -> Sequence[str]:
    """Return a metric's notes. Raises `PluginError` if `check` did not return a list of text."""
    if isinstance(returned, (list, tuple)) and all(isinstance(note, str) for note in returned):
        return returned
    raise PluginError(
        f"metric {type(metric).__name__}: check returned {returned!r}; it must return a list of notes, which may be "
        "empty, and raise ConfigError for what does not fit"
    )
