"""What is known of an evaluation before training; metrics check it, so that a run does not train in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.draws import Draw
from hebm.errors import ConfigError, HebmError, PluginError
from hebm.evaluation.extractors import ExtractorRecipe, require_one
from hebm.evaluation.kinds import DATA, RECONSTRUCTION
from hebm.evaluation.metric import MetricRecipe
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
        backbone: with its initial weights.
        prior: with its initial weights.
    """

    images: Mapping[str, Images]
    spec: ImageSpec
    settings: EvaluateSettings
    backbone: Backbone
    prior: PriorLearner
    _used: dict[str, ExtractorRecipe] = attrs.field(factory=dict, init=False)

    def count(self, kind: str) -> int:
        """Return how many images of a kind will be used: of data and reconstructions no more than the split has."""
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
            except HebmError as error:
                errors.setdefault(str(error), error)
        if len(errors) > 1:
            raise ConfigError("\n".join(errors))
        for only in errors.values():
            raise only
        return tuple(notes)


def _notes(metric: MetricRecipe, returned: Any) -> Sequence[str]:
    """Return the notes of a metric. Raises `PluginError` if `check` returned anything else."""
    if isinstance(returned, (list, tuple)) and all(isinstance(note, str) for note in returned):
        return returned
    raise PluginError(
        f"metric {type(metric).__name__}: check returned {returned!r}; it must return a list of notes, which may be "
        "empty, and raise ConfigError for what does not fit"
    )
