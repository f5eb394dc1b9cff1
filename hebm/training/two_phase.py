"""Scheme two-phase: the backbone by its own objective, then the prior on the frozen backbone's posterior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from hebm.config.recipe import option, recipe
from hebm.densities import Tilt
from hebm.errors import ConfigError
from hebm.interfaces import Backbone, Batch, Finalizes, InferringBackbone, Loss, PriorLearner, Progress, Stage
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.training.optimization import PhaseOptimization
from hebm.training.phases import Group, Phase, SchemeRecipe, start_stage
from hebm.training.state import load_module

if TYPE_CHECKING:
    from hebm.data.images import Images


class BackbonePhase(Phase):
    """Phase 1: the backbone's objective plus the prior stages that are terms of it, in one sum with one clip.

    Arguments:
        backbone: trained.
        prior: owner of the stages.
        stages: those that learn with the backbone.
        optimization: of the whole sum.
        bits: divide the loss by ln 2 · C · H · W.
    """

    def __init__(
        self,
        backbone: InferringBackbone,
        prior: PriorLearner,
        stages: tuple[Stage, ...],
        optimization: PhaseOptimization,
        bits: bool,
    ) -> None:
        groups = {"backbone": Group(backbone, (backbone,), optimization)}
        if stages:
            groups["prior"] = Group(prior, tuple(stage.module for stage in stages), optimization)
        super().__init__("backbone", optimization.steps, groups, optimization.patience, one_clip=True)
        self.backbone, self.trained = backbone, nn.ModuleList(stage.module for stage in stages)
        self.stages, self.bits = stages, bits

    def start(self, noise: Noise) -> None:
        """Set train mode; stages prepare."""
        super().start(noise)
        for stage in self.stages:
            start_stage(stage, self.backbone, noise)

    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """−ELBO, in nats per image or bits per dimension."""
        loss = self.backbone.objective(batch, noise.derive("backbone"), progress)
        total, terms = loss.total, dict(loss.terms)
        for stage in self.stages:
            extra = stage.objective(self.backbone, loss.posterior, noise.derive("prior"), progress, batch.labels)
            total, terms = total + extra.total, {**terms, **extra.terms}
        unit = math.log(2) * batch.target[0].numel() if self.bits else 1.0
        return Loss(total / unit, terms)

    def finish(self, owner: nn.Module, noise: Noise) -> None:
        """Finalize a backbone that asks for it."""
        if isinstance(owner, Backbone) and isinstance(owner, Finalizes):
            owner.finalize(noise)


class PriorPhase(Phase):
    """Phase 2: one stage of the prior on posterior draws of the frozen backbone.

    Arguments:
        backbone: frozen, in eval mode.
        prior: owner of the stage.
        stage: what is trained.
        optimization: how.
    """

    def __init__(
        self, backbone: InferringBackbone, prior: PriorLearner, stage: Stage, optimization: PhaseOptimization
    ) -> None:
        groups = {"prior": Group(prior, (stage.module,), optimization)}
        super().__init__(stage.name, optimization.steps, groups, optimization.patience)
        self.trained, self.stage = stage.module, stage
        # in a tuple: a frozen backbone is neither this phase's sub-module nor its parameters
        self._frozen = (backbone,)

    def start(self, noise: Noise) -> None:
        """Freeze the backbone and fold it."""
        super().start(noise)
        self._frozen = (self._frozen[0].eval().folded(),)
        start_stage(self.stage, self._frozen[0], noise)

    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """The stage's objective on one posterior draw per image."""
        (backbone,) = self._frozen
        with torch.no_grad():
            drawn = backbone.infer(batch, noise.derive("posterior"))
        posterior = Posterior(drawn.latents.detach(), drawn.log_q, drawn.kl)
        return self.stage.objective(backbone, posterior, noise.derive("prior"), progress, batch.labels)


@recipe
class TwoPhase(SchemeRecipe):
    """Phase 1 trains the backbone by its ELBO (with the prior stages that are terms of it), phase 2 the prior.

    Needs a backbone with an inference model. Made for deep hierarchies, whose backbone is trained once.
    """

    backbone: PhaseOptimization = option(
        factory=lambda: PhaseOptimization(steps=3000, schedule="cosine", clip=200.0), doc="phase 1"
    )
    prior: PhaseOptimization = option(
        factory=lambda: PhaseOptimization(steps=2000, schedule="linear", decay_from=0.7, ema=0.999),
        doc="phase 2, each stage of the prior",
    )
    backbone_from: str | None = option(
        None, doc="run folder whose phase 1 is taken over, for several priors on one backbone; leaves out phase 1"
    )
    unit: str = option("nats", doc="of phase 1's loss, which its clip refers to", choices=("nats", "bits/dim"))

    def phases(self, backbone: Backbone, prior: PriorLearner) -> tuple[Phase, ...]:
        """The backbone's phase, then one for each stage of the prior."""
        inferring = require_inference(backbone, "two-phase")
        stages = prior.stages()
        together = tuple(stage for stage in stages if stage.with_backbone)
        later = tuple(PriorPhase(inferring, prior, stage, self.prior) for stage in stages if not stage.with_backbone)
        if self.backbone_from is not None:
            return later
        return BackbonePhase(inferring, prior, together, self.backbone, self.unit == "bits/dim"), *later

    def prepare(self, backbone: Backbone, prior: PriorLearner, images: Images, noise: Noise) -> None:
        """Statistics of the data, or all that phase 1 of another run has left: the backbone with its buffers, finalized
        again, and the prior's stages that learned with it.

        Raises:
            CheckpointError: that run has no checkpoint, or what it has does not fit.
            ConfigError: its prior has no such stages.
        """
        if self.backbone_from is None:
            super().prepare(backbone, prior, images, noise)
            return
        from hebm.model import trained_weights  # the model's module imports configuration, which lists schemes

        weights = trained_weights(self.backbone_from)
        load_module(backbone, weights["backbone"], f"the backbone of {self.backbone_from}")
        if together := _learned_together(prior):
            self._take_over(together, self.backbone_from)
        if isinstance(backbone, Finalizes):
            backbone.finalize(noise)

    def _take_over(self, modules: Mapping[str, nn.Module], run: str) -> None:
        """Weights of stages, by name, as that run has trained them beside its backbone.

        What weights are read by, and is none of them, belongs into a module's `extra_repr`: both must print alike.
        """
        from hebm.model import Model

        theirs = _learned_together(Model.load(run).prior)
        for name, module in modules.items():
            if name not in theirs:
                raise ConfigError(
                    f"train.backbone_from: stage {name!r} of this prior learns with the backbone, and the prior of "
                    f"{run} has no such stage; use a run that has, or leave backbone_from out"
                )
            if repr(theirs[name]) != repr(module):
                raise ConfigError(
                    f"train.backbone_from: stage {name!r} of {run} was trained as\n{theirs[name]}\nand this one is\n"
                    f"{module}\ngive the prior that learns with the backbone the settings that it has there"
                )
            load_module(module, theirs[name].state_dict(), f"stage {name!r} of {run}")

    def posterior(self, backbone: Backbone, tilt: Tilt | None, batch: Batch, noise: Noise) -> Posterior:
        """z ~ q(z|x)."""
        return require_inference(backbone, "two-phase").infer(batch, noise)


def _learned_together(prior: PriorLearner) -> dict[str, nn.Module]:
    """The modules of stages that learn with the backbone, by the stage's name."""
    return {stage.name: stage.module for stage in prior.stages() if stage.with_backbone}


def require_inference(backbone: Backbone, scheme: str) -> InferringBackbone:
    """Return the backbone as one with q(z|x). Raises `ConfigError` if it has none."""
    if not isinstance(backbone, InferringBackbone):
        raise ConfigError(
            f"train.type: scheme {scheme!r} needs a backbone with an inference model, {type(backbone).__name__} was "
            'built without; set backbone.inference = "top-down", or use train.type = "joint"'
        )
    return backbone
