"""What is known of an evaluation before anything is computed; metrics check it, so that a run does not train in vain.

A metric asks its plan for what it needs. What is not there raises an error that says so: a backbone, a prior and kinds
of images that a model draws are not there where images that no run made are measured.
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
        spec: what the backbone knows of them.
        settings: the `[evaluate]` table, with its extractors filled in.
        backbone: with its initial weights; None where images are measured that no run made.
        prior: with its initial weights, or None likewise.
        given: the images that no run made.
    """

    images: Mapping[str, Images]
    spec: ImageSpec
    settings: EvaluateSettings
    _backbone: Backbone | None = None
    _prior: PriorLearner | None = None
    given: Images | None = None
    _used: dict[str, ExtractorRecipe] = attrs.field(factory=dict, init=False)

    # ------------------------------------------------------------ what a metric asks for

    @property
    def backbone(self) -> Backbone:
        """The backbone. Raises `NeedsModelError` where only images were given."""
        if self._backbone is None:
            raise NeedsModelError("needs a trained model (its backbone), and there are only images")
        return self._backbone

    @property
    def prior(self) -> PriorLearner:
        """The prior. Raises `NeedsModelError` where only images were given."""
        if self._prior is None:
            raise NeedsModelError("needs a trained model (its prior), and there are only images")
        return self._prior

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of images that are compared with the data, as `Evaluation.kinds` will have them."""
        return (GAUSSIAN, PRIOR, RECONSTRUCTION) if self.given is None else (SAMPLES,)

    def require(self, *kinds: str) -> None:
        """Raise `NeedsModelError` if the evaluation will not have images of one of these kinds."""
        lacking = [kind for kind in kinds if kind not in (DATA, *self.kinds)]
        if lacking:
            raise NeedsModelError(
                f"needs a trained model (its images of kind {' and '.join(lacking)}), and there are only images"
            )

    @property
    def fewest(self) -> int:
        """The number of images of the kind that has fewest, the data among them."""
        return min(self.count(kind) for kind in (DATA, *self.kinds))

    def count(self, kind: str) -> int:
        """Return how many images of a kind will be used: of data and reconstructions no more than the split has.

        Raises `NeedsModelError` for a kind that the evaluation will not have.
        """
        self.require(kind)
        if kind == SAMPLES and self.given is not None:
            return len(self.given)
        most = len(self.images[self.settings.split])
        return min(self.settings.samples, most) if kind in (DATA, RECONSTRUCTION) else self.settings.samples

    def extractor(self, which: ExtractorRecipe | str | None = None) -> ExtractorRecipe:
        """Return the recipe of an extractor that `Evaluation.extractor` will load, and check it.

        Arguments:
            which: a recipe, or a name; None for the settings' first one.

        Raises `HebmError` if it is not suited to the images or its weights cannot be used, or if two recipes of one
        name would be used.
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
        """A tensor of the backbone's device and type."""
        return next(self.backbone.parameters(), torch.zeros(()))

    @cached_property
    def likelihood(self) -> Any:
        """The distribution p(x|z) of one image at u = 0. Its parameters are not trained; its family is what it is."""
        zero = self.backbone.layout.zeros(self._like)
        with evaluating(self.backbone):
            return self.backbone.likelihood(self.backbone.latents(zero.u, zero.context))

    def check_transitions(self) -> None:
        """Raise `ConfigError` for draws that the trained prior will not have, or a chain that cannot run.

        `evaluate.after` and `evaluate.start_proposals` ask for them.
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
        """Check all metrics and return their notes, each once.

        Raises `HebmError` with everything that does not fit.
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
        """Say which of the metrics do without a model."""
        names = ", ".join(f'"{called(metric)}"' for metric in self.settings.metrics if not self.needs_model(metric))
        return f"use evaluate.metrics = [{names}]" if names else "name another metric in evaluate.metrics"

    def needs_model(self, metric: MetricRecipe) -> bool:
        """Return whether a metric asks for a model, and there is none."""
        try:
            metric.check(self)
        except NeedsModelError:
            return True
        except HebmError:  # `check` tells it
            return False
        return False


def _notes(metric: MetricRecipe, returned: Any) -> Sequence[str]:
    """Return the notes of a metric. Raises `PluginError` if `check` returned anything else."""
    if isinstance(returned, (list, tuple)) and all(isinstance(note, str) for note in returned):
        return returned
    raise PluginError(
        f"metric {type(metric).__name__}: check returned {returned!r}; it must return a list of notes, which may be "
        "empty, and raise ConfigError for what does not fit"
    )
