"""Scheme joint: generator and prior together by maximum likelihood, latents inferred by MCMC."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm import defaults
from hebm.config.recipe import option, recipe
from hebm.densities import GeneratorPosterior, Tilt
from hebm.errors import ConfigError
from hebm.interfaces import Backbone, Batch, Loss, PriorLearner, Progress, Sampler, Stage
from hebm.latents import Latents, Posterior
from hebm.noise import Noise
from hebm.sampling import Chain, run
from hebm.training.optimization import Optimization
from hebm.training.phases import STAGE_LOSS, Group, Phase, SchemeRecipe, start_stage


def tilt_of(prior: PriorLearner, stage: Stage | None = None) -> Tilt | None:
    """f under which latents are inferred: the stage's while it learns, else the prior's; None for a root."""
    if stage is not None and stage.tilt is not None:
        return stage.tilt
    return None if prior.base is None else prior.tilt


def posterior_chain(backbone: Backbone, tilt: Tilt | None, sampler: Sampler, target: Tensor, noise: Noise) -> Chain:
    """A short run on log p(x|T(u)) + f(T(u)) − |u|²/2 from u ~ N(0, I).

    Arguments:
        backbone: gives T and p(x|z).
        tilt: f per energy, or None.
        sampler: the chain.
        target: x, `(B, C, H, W)`.
        noise: of the start and the steps.
    """
    start = noise.derive("start").normal(len(target), backbone.layout.dim)
    return run(sampler, GeneratorPosterior(backbone, target, tilt), start, noise.derive("chain"))


def log_normaliser(backbone: Backbone, negative: Latents | None) -> Tensor | float:
    """E[log p_β(z⁻)] at fixed z⁻, whose gradient in β is that of log Z; 0 without a negative phase."""
    if negative is None:
        return 0.0
    return backbone.invert(negative.z, negative.context).base_log_prob.mean()


def generator_loss(backbone: Backbone, target: Tensor, positive: Latents, negative: Latents | None) -> Loss:
    """−E[log p(x|z⁺)] − E[log p_β(z⁺)] + E[log p_β(z⁻)], every z held fixed while the backbone moves.

    Arguments:
        backbone: gets the gradient.
        target: x, `(B, C, H, W)`.
        positive: posterior draws.
        negative: draws of the tilted prior: its normaliser depends on p_β. The multi-stage paper's Eq. 11 leaves them
            out; then None.
    """
    latents = backbone.invert(positive.z, positive.context)
    reconstruction = -backbone.likelihood(latents).log_prob(target).mean()
    base = log_normaliser(backbone, negative) - latents.base_log_prob.mean()
    return Loss(reconstruction + base, {"reconstruction": reconstruction.detach(), "base": base.detach()})


class JointPhase(Phase):
    """Each step: posterior chain, prior's objective on its end (with its own negative chain), generator on both.

    Arguments:
        backbone, prior: trained.
        stage: of the prior, or None if it has nothing to train.
        scheme: samplers, steps, optimisation.
    """

    def __init__(self, backbone: Backbone, prior: PriorLearner, stage: Stage | None, scheme: JointMCMC) -> None:
        groups = {"backbone": Group(backbone, backbone.generative(), scheme.backbone)}
        if stage is not None:
            groups["prior"] = Group(prior, (stage.module,), scheme.prior)
        name, watched = ("joint", "loss") if stage is None else (f"joint-{stage.name}", STAGE_LOSS)
        super().__init__(name, scheme.steps, groups, scheme.patience, watched)
        self.backbone, self.prior, self.stage, self.scheme = backbone, prior, stage, scheme

    def start(self, noise: Noise) -> None:
        """Set train mode; the stage prepares."""
        super().start(noise)
        start_stage(self.stage, self.backbone, noise)

    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """The generator's loss plus the prior's, on the same posterior draws."""
        u, nonfinite = posterior_chain(
            self.backbone,
            tilt_of(self.prior, self.stage),
            self.scheme.posterior_sampler,
            batch.target,
            noise.derive("posterior"),
        )
        with torch.no_grad():
            positive = self.backbone.latents(u).detach()
        learned = Loss(torch.zeros_like(u[0, 0]))
        if self.stage is not None:
            drawn = Posterior(positive)
            learned = self.stage.objective(self.backbone, drawn, noise.derive("prior"), progress, batch.labels)
        negative = learned.negative if self.scheme.beta_grad == "mle" else None
        generator = generator_loss(self.backbone, batch.target, positive, negative)
        terms = {**generator.terms, **learned.terms, "nonfinite_posterior_chains": nonfinite.to(u.dtype)}
        if self.stage is not None:
            terms[STAGE_LOSS] = learned.total.detach()
        return Loss(generator.total + learned.total, terms)


@recipe
class JointMCMC(SchemeRecipe):
    """Maximum likelihood of a shallow generator and its prior at once (arXiv 2306.06323, joint training).

    Chains move in u, where every layer has one scale; the published code moves z (see `hebm.densities.LatentSpace`)
    and starts both layers of z at N(0, I). Both formulas describe the same model.
    """

    steps: int = option(5000, doc="training steps, of each stage of the prior, at most", low=0)
    patience: int = option(
        0, doc="ends a stage when the mean loss of so many steps is not below that of as many before; 0 = off", low=0
    )
    backbone: Optimization = option(factory=lambda: Optimization(learning_rate=1e-4), doc="generator")
    prior: Optimization = option(factory=lambda: Optimization(learning_rate=2e-5), doc="prior")
    posterior_sampler: Sampler = option(factory=defaults.POSTERIOR_SAMPLER, doc="chain that infers latents")
    beta_grad: str = option(
        "mle",
        doc="gradient of p(z_i|z_above): with the negative phase, where the prior gives draws for it, or without",
        choices=("mle", "posterior"),
    )

    def phases(self, backbone: Backbone, prior: PriorLearner) -> tuple[Phase, ...]:
        """One for each stage of the prior; one for the generator alone if there is none."""
        if backbone.layout.context is not None:
            raise ConfigError("train.type: scheme 'joint' infers no context; use 'two-phase' for this backbone")
        if prior.density(backbone) is None:
            raise ConfigError(
                f"train.type: scheme 'joint' needs a prior with an unnormalised density, {type(prior).__name__} has "
                'none; use train.type = "two-phase"'
            )
        stages: tuple[Stage | None, ...] = prior.stages() or (None,)
        return tuple(JointPhase(backbone, prior, stage, self) for stage in stages)

    def posterior(self, backbone: Backbone, prior: PriorLearner, batch: Batch, noise: Noise) -> Posterior:
        """The end of a short-run chain under the current prior."""
        u = posterior_chain(backbone, tilt_of(prior), self.posterior_sampler, batch.target, noise).u
        return Posterior(backbone.latents(u))
