"""Scheme joint: train generator and prior together by maximum likelihood, and infer latents by MCMC."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm import defaults
from hebm.config.recipes import option, recipe
from hebm.densities import GeneratorPosterior
from hebm.errors import ConfigError
from hebm.interfaces import Backbone, Batch, Loss, PriorLearner, Progress, Sampler, Stage, tilt_of
from hebm.latents import Latents, Posterior
from hebm.noise import Noise
from hebm.samplers import Adapts
from hebm.sampling import Chain, run
from hebm.tilts import Tilt
from hebm.training.optimization import PATIENCE, Optimization
from hebm.training.phases import (
    BACKBONE,
    STAGE_LOSS,
    Group,
    Phase,
    SchemeRecipe,
    Supplies,
    require_density_of_latents,
    require_trainable,
    start_stage,
)


def inference_tilt(prior: PriorLearner, stage: Stage | None) -> Tilt | None:
    """Return the tilt under which latents are inferred while a stage learns: the stage's, or else the prior's."""
    return tilt_of(prior) if stage is None or stage.tilt is None else stage.tilt


def posterior_chain(backbone: Backbone, tilt: Tilt | None, sampler: Sampler, target: Tensor, noise: Noise) -> Chain:
    """Run a short chain on log p(x|T(u)) + f(T(u)) − |u|²/2 from u ~ N(0, I).

    Arguments:
        backbone: the backbone with T and p(x|z).
        tilt: the log tilt f; None for the root alone.
        sampler: the MCMC sampler.
        target: images x, `(B, C, H, W)`.
        noise: the noise of the start and the steps.

    Returns the end of the chain in u, `(B, D)`, and the number of chains that are not finite.
    """
    start = noise.derive("start").normal(len(target), backbone.layout.dim)
    return run(sampler, GeneratorPosterior(backbone, target, tilt), start, noise.derive("chain"))


def log_normaliser(backbone: Backbone, negative: Latents | None) -> Tensor | float:
    """Return E[log p_β(z⁻)] at fixed z⁻, whose gradient in β is that of log Z; 0 without negative draws."""
    if negative is None:
        return 0.0
    return backbone.invert(negative.z, negative.context).root_log_prob.mean()


def generator_loss(backbone: Backbone, target: Tensor, positive: Latents, negative: Latents | None) -> Loss:
    """Return −E[log p(x|z⁺)] − E[log p_β(z⁺)] + E[log p_β(z⁻)], with every z fixed.

    Arguments:
        backbone: the backbone, which receives the gradient.
        target: images x, `(B, C, H, W)`.
        positive: posterior draws z⁺.
        negative: draws z⁻ of the tilted prior, whose normaliser depends on p_β. None leaves out that term, as Eq. 11
            of the multi-stage paper does.
    """
    latents = backbone.invert(positive.z, positive.context)
    reconstruction = -backbone.likelihood(latents).log_prob(target).mean()
    base = log_normaliser(backbone, negative) - latents.root_log_prob.mean()
    return Loss(reconstruction + base, {"reconstruction": reconstruction.detach(), "log_p_beta": base.detach()})


class JointPhase(Phase):
    """Trains one stage of the prior together with the generator.

    Each step runs a posterior chain and evaluates the prior's objective on its end. The objective runs a negative
    chain if the prior has one. The generator's loss uses the ends of both chains.

    Arguments:
        backbone, prior: the modules to train.
        stage: the stage of the prior to train; None if the prior has no parameters.
        scheme: the recipe with samplers, steps and optimisation.
    """

    def __init__(self, backbone: Backbone, prior: PriorLearner, stage: Stage | None, scheme: JointMCMC) -> None:
        groups = {BACKBONE: Group(backbone, backbone.generative(), scheme.backbone)}
        if stage is not None:
            groups["prior"] = Group(prior, (stage.module,), scheme.prior)
        name, watched = ("joint", "loss") if stage is None else (f"joint {stage.name}", STAGE_LOSS)
        super().__init__(name, scheme.steps, groups, scheme.patience, watched)
        self.backbone, self.prior, self.stage, self.scheme = backbone, prior, stage, scheme

    def start(self, noise: Noise, supplies: Supplies = Supplies()) -> None:
        """Set train mode, and start the stage."""
        super().start(noise, supplies)
        start_stage(self.stage, self.backbone, noise)

    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return the losses of generator and prior on the same posterior draws, summed."""
        u, nonfinite = posterior_chain(
            self.backbone,
            inference_tilt(self.prior, self.stage),
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
    """Trains a shallow generator and its prior together by maximum likelihood (arXiv 2306.06323, joint training).

    Chains move in u, where every layer has the same scale. The published code moves z (see
    `hebm.densities.LatentSpace`) and starts both layers of z at N(0, I). Both describe the same model.
    """

    steps: int = option(5000, doc="largest number of training steps for each stage of the prior", low=0)
    patience: int = option(0, doc=PATIENCE, low=0)
    backbone: Optimization = option(
        factory=lambda: Optimization(learning_rate=1e-4), doc="optimisation of the generator"
    )
    prior: Optimization = option(factory=lambda: Optimization(learning_rate=2e-5), doc="optimisation of the prior")
    posterior_sampler: Sampler = option(
        factory=defaults.POSTERIOR_SAMPLER, doc="sampler of the chains that infer latents"
    )
    beta_grad: str = option(
        "mle",
        doc="gradient of p(z_i|z_above): with the negative phase, if the prior has negative draws (mle), or without it "
        "(posterior)",
        choices=("mle", "posterior"),
    )

    def phases(self, backbone: Backbone, prior: PriorLearner) -> tuple[Phase, ...]:
        """Return a phase for each stage of the prior, or one for the generator alone if the prior has none."""
        if backbone.layout.context is not None:
            raise ConfigError("train.type: scheme 'joint' does not infer a context; use 'two-phase' for this backbone")
        require_trainable(backbone, "joint")
        require_density_of_latents(prior, backbone, "joint")
        self._check_posterior_sampler(backbone)
        stages: tuple[Stage | None, ...] = prior.stages() or (None,)
        return tuple(JointPhase(backbone, prior, stage, self) for stage in stages)

    def _check_posterior_sampler(self, backbone: Backbone) -> None:
        """Raise `ConfigError` if the sampler cannot run on the posterior, or needs an adapted step size."""
        sampler = self.posterior_sampler
        sampler.check(GeneratorPosterior(backbone, torch.zeros(1)))
        if isinstance(sampler, Adapts) and sampler.target_acceptance > 0:
            raise ConfigError(
                "train.posterior_sampler.target_acceptance: step sizes are adapted after training, but these chains "
                "run during training; leave it out, and set step_size"
            )

    def posterior(self, backbone: Backbone, tilt: Tilt | None, batch: Batch, noise: Noise) -> Posterior:
        """Infer latents by a short MCMC chain under the tilt."""
        u = posterior_chain(backbone, tilt, self.posterior_sampler, batch.target, noise).u
        return Posterior(backbone.latents(u))
