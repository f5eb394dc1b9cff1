"""Scheme two-phase: the backbone by its own objective, then the prior on the frozen backbone's posterior."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs
import torch
from torch import nn

from hebm.config.recipes import is_recipe, option, recipe
from hebm.config.writing import differences
from hebm.errors import ConfigError
from hebm.interfaces import (
    Backbone,
    Batch,
    Finalizes,
    HasFinalWeights,
    InferringBackbone,
    Loss,
    PriorLearner,
    Progress,
    Stage,
)
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.store.tensor_files import digest
from hebm.tilts import Tilt, sees_of, shown
from hebm.training.kept_latents import Kept
from hebm.training.optimization import PhaseOptimization
from hebm.training.phases import BACKBONE, Group, Phase, SchemeRecipe, Supplies, start_stage
from hebm.training.posterior_draws import PosteriorDraws
from hebm.training.state import load_module
from hebm.validated import Validated

if TYPE_CHECKING:
    from hebm.data.images import Images


UNITS: Mapping[str, Callable[[int], float]] = {
    "nats": lambda _: 1.0,
    "nats/dim": float,
    "bits/dim": lambda dims: math.log(2) * dims,
}
"""Divisors of a loss in nats per image, as functions of its number C · H · W of dimensions."""


class BackbonePhase(Phase):
    """Phase 1: trains the backbone, together with the stages of the prior that are terms of its objective.

    The loss is one sum, and its gradient is clipped as one vector.

    Arguments:
        backbone: the backbone to train.
        prior: the prior that owns the stages.
        stages: the stages that learn with the backbone.
        optimization: optimiser, schedule and steps for the whole sum.
        unit: the unit of the loss, one of `UNITS`.
    """

    def __init__(
        self,
        backbone: InferringBackbone,
        prior: PriorLearner,
        stages: tuple[Stage, ...],
        optimization: PhaseOptimization,
        unit: str,
    ) -> None:
        groups = {BACKBONE: Group(backbone, (backbone,), optimization)}
        if stages:
            groups["prior"] = Group(prior, tuple(stage.module for stage in stages), optimization)
        super().__init__("backbone", optimization.steps, groups, optimization.patience, one_clip=True)
        self.backbone, self.trained = backbone, nn.ModuleList(stage.module for stage in stages)
        self.stages, self.unit = stages, unit

    def start(self, noise: Noise, supplies: Supplies = Supplies()) -> None:
        """Set train mode, and start the stages."""
        super().start(noise, supplies)
        for stage in self.stages:
            start_stage(stage, self.backbone, noise)

    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return −ELBO plus the losses of the stages, in the unit of `UNITS`."""
        loss = self.backbone.objective(batch, noise.derive("backbone"), progress)
        total, terms = loss.total, {**loss.terms, **loss.kl_of_layers}
        for stage in self.stages:
            extra = stage.objective(self.backbone, loss.posterior, noise.derive("prior"), progress, batch.labels)
            total, terms = total + extra.total, {**terms, **extra.terms}
        return Loss(total / UNITS[self.unit](batch.target[0].numel()), terms)

    @property
    def finishes(self) -> bool:
        """Whether the backbone measures statistics on its final weights."""
        return isinstance(self.backbone, Finalizes)

    def finish(self, owner: nn.Module, noise: Noise) -> None:
        """Finalize the owner if it is a backbone that implements `Finalizes`."""
        if isinstance(owner, Backbone) and isinstance(owner, Finalizes):
            owner.finalize(noise)


class PriorPhase(Phase):
    """Phase 2: trains one stage of the prior on posterior draws of the frozen backbone.

    Arguments:
        backbone: the backbone, frozen and in eval mode.
        prior: the prior that owns the stage.
        stage: the stage to train.
        optimization: optimiser, schedule and steps for the stage.
        posterior_draws: m, the number of stored draws per image; None draws new latents in each step.
    """

    def __init__(
        self,
        backbone: InferringBackbone,
        prior: PriorLearner,
        stage: Stage,
        optimization: PhaseOptimization,
        posterior_draws: int | None = None,
    ) -> None:
        groups = {"prior": Group(prior, (stage.module,), optimization)}
        super().__init__(stage.name, optimization.steps, groups, optimization.patience)
        self.trained, self.stage = stage.module, stage
        self.posterior_draws, self.own_epochs = posterior_draws, posterior_draws is not None
        self.stored: PosteriorDraws | None = None
        # The tuple keeps the frozen backbone from becoming a sub-module, whose parameters would belong to the phase.
        self._frozen = (backbone,)

    def start(self, noise: Noise, supplies: Supplies = Supplies()) -> None:
        """Set train mode, fold the frozen backbone, and start the stage."""
        super().start(noise, supplies)
        (backbone,) = self._frozen
        cache = supplies.cache.bound({"weights": digest(backbone.state_dict())})
        self._frozen = (backbone.eval().folded(),)
        if self.posterior_draws is not None and supplies.batches is not None:
            kept = Kept.by(self.stage)
            self.stored = PosteriorDraws(self._frozen[0], supplies.batches, kept, self.posterior_draws, cache)
        start_stage(self.stage, self._frozen[0], noise, cache)

    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return the stage's objective on one posterior draw per image."""
        (backbone,) = self._frozen
        posterior = self._drawn(batch, noise) if self.stored is None else self.stored.of(batch, noise, progress)
        return self.stage.objective(backbone, posterior, noise.derive("prior"), progress, batch.labels)

    def validated(self, prior: PriorLearner, batch: Batch, noise: Noise) -> Validated | None:
        """Draw latents of each held-out image, and return what the stage's validation needs of them."""
        stage = next(stage for stage in prior.stages() if stage.name == self.stage.name)
        (backbone,), source = self._frozen, noise.derive("prior")
        if stage.contrasted is not None:
            return stage.contrasted(backbone, self._drawn(batch, noise).latents, source)
        return stage.held_out and stage.held_out(backbone, self._drawn(batch, noise), source)

    @torch.no_grad()
    def _drawn(self, batch: Batch, noise: Noise) -> Posterior:
        """Return a new posterior draw per image, with the decoder outputs that the stage's energies see."""
        (backbone,) = self._frozen
        drawn = backbone.infer(batch, noise.derive("posterior"))
        latents = shown(backbone, drawn.latents, sees_of(self.stage.module))
        return attrs.evolve(drawn, latents=latents).detach()


class NoTraining(Phase):
    """The phase of a run that trains nothing: a root on a backbone that is trained already. It saves a checkpoint."""

    def __init__(self) -> None:
        super().__init__("no training", 0, {})

    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return a loss of 0."""
        return Loss(batch.x.new_zeros(()))


@recipe
class TwoPhase(SchemeRecipe):
    """Trains the backbone by its ELBO in phase 1, and the prior on the frozen backbone in phase 2.

    Stages of the prior that are terms of the ELBO learn in phase 1. The backbone needs an inference model. Use this
    scheme for deep hierarchies, where several priors share one trained backbone.
    """

    infers_by_q: ClassVar[bool] = True

    backbone: PhaseOptimization = option(
        factory=lambda: PhaseOptimization(steps=3000, schedule="cosine", clip=200.0), doc="phase 1"
    )
    prior: PhaseOptimization = option(
        factory=lambda: PhaseOptimization(steps=2000, schedule="linear", decay_from=0.7, ema=0.999),
        doc="phase 2, each stage of the prior",
    )
    backbone_from: str | None = option(
        None,
        doc="run folder whose trained backbone replaces phase 1, to train several priors on one backbone",
        path=True,
    )
    allow_unfinished: bool = option(
        False, doc="accept an unfinished run for backbone_from, and use the backbone of its newest checkpoint"
    )
    posterior_draws: int | None = option(
        None,
        doc="posterior draws per image that phase 2 stores and uses in turn; left out: a new draw in each step",
        low=1,
    )
    unit: str = option("nats", doc="unit of phase 1's loss, clip and skip_above", choices=(*UNITS,))

    def phases(self, backbone: Backbone, prior: PriorLearner) -> tuple[Phase, ...]:
        """Return the backbone's phase, then one phase for each stage of the prior.

        A backbone whose weights are final, or come from another run, has no phase.

        Raises `ConfigError` if its weights are final and a stage of the prior learns with it.
        """
        inferring = require_inference(backbone, "two-phase")
        stages = prior.stages()
        together = tuple(stage for stage in stages if stage.with_backbone)
        later = tuple(
            PriorPhase(inferring, prior, stage, self.prior, self.posterior_draws)
            for stage in stages
            if not stage.with_backbone
        )
        if together and isinstance(backbone, HasFinalWeights):
            raise ConfigError(
                f"prior: stage {together[0].name!r} learns with the backbone, but the weights of this "
                f"{type(backbone).__name__} are final; use another prior, or a backbone that hebm trains"
            )
        if isinstance(backbone, HasFinalWeights) or self.backbone_from is not None:
            return later or (NoTraining(),)
        return BackbonePhase(inferring, prior, together, self.backbone, self.unit), *later

    def prepare(self, backbone: Backbone, prior: PriorLearner, images: Images, noise: Noise) -> None:
        """Fit the backbone's statistics, or load what phase 1 of another run trained.

        With `backbone_from`, the backbone with its buffers and the stages that learned with it come from the other run.
        The backbone is then finalized again.

        Raises:
            CheckpointError: if the other run is unfinished or has no checkpoint, or if its weights do not fit.
            ConfigError: if the other run's prior lacks one of these stages, or trained it with other settings.
        """
        if self.backbone_from is None:
            super().prepare(backbone, prior, images, noise)
            return
        from hebm.stored_runs import read_run  # a circular import: the configuration that it imports lists schemes

        run = read_run(self.backbone_from, allow_unfinished=self.allow_unfinished)
        load_module(backbone, run.weights()["backbone"], f"the backbone of {self.backbone_from}")
        if together := [stage for stage in prior.stages() if stage.with_backbone]:
            _take_over(together, run.build_model().prior, self.backbone_from)
        if isinstance(backbone, Finalizes):
            backbone.finalize(noise)

    def posterior(self, backbone: Backbone, tilt: Tilt | None, batch: Batch, noise: Noise) -> Posterior:
        """Draw the latents z ~ q(z|x)."""
        return require_inference(backbone, "two-phase").infer(batch, noise)


def _take_over(stages: Sequence[Stage], prior: PriorLearner, run: str) -> None:
    """Load the weights of stages that another run trained with its backbone.

    Arguments:
        stages: the stages of this run's prior that learn with the backbone.
        prior: the prior of the other run.
        run: the folder of the other run, for errors.

    Raises `ConfigError` if the other run lacks a stage, or trained it with another recipe.
    """
    found = {stage.name: stage for stage in prior.stages() if stage.with_backbone}
    for stage in stages:
        theirs = found.get(stage.name)
        if theirs is None:
            raise ConfigError(
                f"train.backbone_from: stage {stage.name!r} of this prior learns with the backbone, but the prior of "
                f"{run} does not have this stage; use a run that has it, or leave backbone_from out"
            )
        if changes := other_settings(stage, theirs):
            raise ConfigError(
                f"train.backbone_from: {run} trained stage {stage.name!r} with other settings:\n  "
                + "\n  ".join(changes)
                + "\nuse the settings of that run for this stage (see its config.toml)"
            )
        load_module(stage.module, theirs.module.state_dict(), f"stage {stage.name!r} of {run}")


def other_settings(ours: Stage, theirs: Stage) -> list[str]:
    """Return one line for each key whose value differs between the recipes of two stages."""
    a, b = ours.recipe, theirs.recipe
    if a == b:
        return []
    differing = differences(a, b) if is_recipe(type(a)) and is_recipe(type(b)) else [("recipe", a, b)]
    return [f"{key}: {there!r} there, {here!r} here" for key, here, there in differing]


def require_inference(backbone: Backbone, scheme: str) -> InferringBackbone:
    """Return the backbone, typed as one with an inference model q(z|x). Raises `ConfigError` if it has none."""
    if not isinstance(backbone, InferringBackbone):
        raise ConfigError(
            f"train.type: scheme {scheme!r} needs a backbone with an inference model, but this "
            f'{type(backbone).__name__} has none; set backbone.inference = "top-down", or use train.type = "joint"'
        )
    return backbone
