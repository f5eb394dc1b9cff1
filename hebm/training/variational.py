"""Scheme variational: generator, inference model and energy together, by the ELBO with the tilted prior in it."""

from __future__ import annotations

from hebm.config.recipe import option, recipe
from hebm.densities import Tilt, frozen
from hebm.errors import ConfigError
from hebm.interfaces import Backbone, Batch, InferringBackbone, Loss, PriorLearner, Progress, Stage, tilt_of
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.training.joint import log_normaliser
from hebm.training.optimization import Optimization
from hebm.training.phases import STAGE_LOSS, Group, Phase, SchemeRecipe, start_stage
from hebm.training.two_phase import require_inference


class VariationalPhase(Phase):
    """ELBO = E_q[log p(x|z) + f(z)] − KL(q ‖ p_β) − log Z.

    Arguments:
        backbone, prior: trained.
        stage: of the prior, or None if it has nothing to train.
        scheme: steps and optimisation.
    """

    def __init__(
        self, backbone: InferringBackbone, prior: PriorLearner, stage: Stage | None, scheme: Variational
    ) -> None:
        groups = {"backbone": Group(backbone, (backbone,), scheme.backbone)}
        if stage is not None:
            groups["prior"] = Group(prior, (stage.module,), scheme.prior)
        name = "variational" if stage is None else f"variational-{stage.name}"
        super().__init__(name, scheme.steps, groups, scheme.patience, "loss" if stage is None else STAGE_LOSS)
        self.backbone, self.prior, self.stage, self.mle = backbone, prior, stage, scheme.beta_grad == "mle"

    def start(self, noise: Noise) -> None:
        """Set train mode; the stage prepares."""
        super().start(noise)
        start_stage(self.stage, self.backbone, noise)

    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """−ELBO up to log Z, whose gradients are the negative phases of f and of p_β."""
        loss = self.backbone.objective(batch, noise.derive("backbone"), progress)
        if self.stage is None:
            return loss
        if loss.posterior is None:
            raise ConfigError(
                f"train.type: scheme 'variational' needs the posterior draw in the Loss that "
                f'{type(self.backbone).__name__}.objective returns; use train.type = "two-phase"'
            )
        with frozen(self.prior):  # its negatives come from the same tilt: that of the stages before, while one learns
            tilt = self._inferred_under().at(self.backbone, loss.posterior.latents).sum(1).mean()
        positive = Posterior(loss.posterior.latents.detach())
        energy = self.stage.objective(self.backbone, positive, noise.derive("prior"), progress, batch.labels)
        log_z = log_normaliser(self.backbone, energy.negative if self.mle else None)
        total = loss.total - tilt + energy.total + log_z
        return Loss(total, {**loss.terms, **energy.terms, STAGE_LOSS: energy.total.detach(), "tilt": tilt.detach()})

    def _inferred_under(self) -> Tilt:
        """Return the stage's tilt, or the prior's."""
        found = self.stage.tilt if self.stage is not None and self.stage.tilt is not None else tilt_of(self.prior)
        if found is None:
            raise ConfigError(
                "train.type: scheme 'variational' needs a prior with a tilt; use train.type = \"two-phase\""
            )
        return found


@recipe
class Variational(SchemeRecipe):
    """The ELBO holds the tilted prior: the inference model is drawn to where f is large (arXiv 2306.06323).

    Needs a backbone whose objective returns its posterior, as the default one does.
    """

    steps: int = option(5000, doc="training steps, of each stage of the prior, at most", low=0)
    patience: int = option(
        0, doc="ends a stage when the mean loss of so many steps is not below that of as many before; 0 = off", low=0
    )
    backbone: Optimization = option(factory=lambda: Optimization(learning_rate=3e-4), doc="generator and inference")
    prior: Optimization = option(factory=lambda: Optimization(learning_rate=2e-5), doc="prior")
    beta_grad: str = option(
        "mle", doc="gradient of p(z_i|z_above): with the negative phase, or without", choices=("mle", "posterior")
    )

    def phases(self, backbone: Backbone, prior: PriorLearner) -> tuple[Phase, ...]:
        """One for each stage of the prior; one for the backbone alone if there is none."""
        inferring = require_inference(backbone, "variational")
        if backbone.layout.context is not None:
            raise ConfigError(
                "train.type: scheme 'variational' learns no p(c) of a context; use 'two-phase' for this backbone"
            )
        if prior.density(backbone) is None:
            raise ConfigError(
                f"train.type: scheme 'variational' needs a prior with an unnormalised density, {type(prior).__name__} "
                'has none; use train.type = "two-phase"'
            )
        stages: tuple[Stage | None, ...] = prior.stages() or (None,)
        return tuple(VariationalPhase(inferring, prior, stage, self) for stage in stages)

    def posterior(self, backbone: Backbone, tilt: Tilt | None, batch: Batch, noise: Noise) -> Posterior:
        """z ~ q(z|x)."""
        return require_inference(backbone, "variational").infer(batch, noise)
