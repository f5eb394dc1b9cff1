"""Train a backbone and a small prior by a scheme, as a run does, for the checks of schemes."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import attrs
import torch
from torch import nn

from hebm.errors import HebmError
from hebm.interfaces import Backbone, ImageSpec, Loss, PriorLearner, Progress
from hebm.noise import Noise
from hebm.testing.promises import (
    expect,
)
from hebm.testing.reference_priors import ReferencePrior
from hebm.testing.subjects import ReferenceBackbone, image_batch, image_set, perturbed, seeded
from hebm.training.phases import Phase, SchemeRecipe, Supplies
from hebm.training.state import GroupState, clip_gradients

ROWS = 6
OWNERS = ("backbone", "prior")


@attrs.frozen(eq=False)
class Trained:
    """A backbone and a prior in training by a scheme.

    Arguments:
        recipe: recipe of the scheme.
        images: description of the training images.
        backbone, prior: the modules.
        phases: the phases, in order.
    """

    recipe: SchemeRecipe
    images: ImageSpec
    backbone: Backbone
    prior: PriorLearner
    phases: tuple[Phase, ...]

    @classmethod
    def of(cls, recipe: SchemeRecipe, images: ImageSpec, backbone: Backbone | None, seed: int = 0) -> Trained:
        """Build the model, prepare it, and list the phases."""
        own = ReferenceBackbone(images=images) if backbone is None else copy.deepcopy(backbone)
        own = perturbed(seeded(lambda: own.train(), seed))
        prior = seeded(lambda: ReferencePrior(own.layout, stages=1), seed)
        try:
            recipe.prepare(own, prior, image_set(images), Noise(0, "prepare"))
            phases = recipe.phases(own, prior)
        except HebmError as error:
            fix = "pass a backbone that the scheme supports to cases(recipe, backbone=…)"
            expect(False, "phases that train a small backbone", f"{type(error).__name__}: {error}", fix)
            raise
        return cls(recipe, images, own, prior, phases)

    def start(self, phase: Phase) -> list[GroupState]:
        """Start a phase: freeze all parameters except its own, and build its optimisers."""
        for module in (self.backbone, self.prior):
            module.requires_grad_(False)
        for group in phase.groups.values():
            for parameter in group.parameters().values():
                parameter.requires_grad_(True)
        phase.start(Noise(0, "begin", phase.key), Supplies())
        return [GroupState.of(name, group) for name, group in phase.groups.items()]

    def loss(self, phase: Phase, number: int = 0) -> Loss:
        """Return the loss of a step in the middle of a phase."""
        step = phase.steps // 2 + number
        found: Loss = phase(image_batch(self.images, ROWS), Noise(0, "train", step), Progress(step, phase.steps))
        return found

    def step(self, phase: Phase, groups: list[GroupState], number: int) -> None:
        """Take one step with every optimiser, at the learning rate of the middle of the phase."""
        for group in groups:
            group.set_rate(phase.steps // 2 + number, phase.steps)
        torch.autograd.backward(self.loss(phase, number).total)
        clip_gradients(groups, phase.one_clip)
        for group in groups:
            group.update()
            group.optimizer.zero_grad(set_to_none=True)

    def started(self) -> Iterator[tuple[Phase, list[GroupState]]]:
        """Start each phase, and yield it with its optimisers."""
        for phase in self.phases:
            yield phase, self.start(phase)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return all parameters, by name."""
        owners = zip(OWNERS, (self.backbone, self.prior), strict=True)
        return {f"{owner}.{name}": p for owner, module in owners for name, p in module.named_parameters()}
