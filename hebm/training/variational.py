"""Scheme variational: train generator, inference model and energy together by the ELBO under the tilted prior."""

from __future__ import annotations

from typing import ClassVar

from hebm.config.recipes import option, recipe
from hebm.densities import frozen
from hebm.errors import ConfigError
from hebm.interfaces import Backbone, Batch, InferringBackbone, Loss, PriorLearner, Progress, Stage
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.tilts import Tilt
from hebm.training.joint import inference_tilt, log_normaliser
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
from hebm.training.two_phase import require_inference


class VariationalPhase(Phase):
    """Maximises ELBO = E_q[log p(x|z) + f(z)] − KL(q ‖ p_β) − log Z.

    Arguments:
        backbone, prior: the modules to train.
        stage: the stage of the prior to train; None if the prior has no parameters.
        scheme: the recipe with steps and optimisation.
    """

    def __init__(
        self, backbone: InferringBackbone, prior: PriorLearner, stage: Stage | None, scheme: Variational
    ) -> None:
        groups = {BACKBONE: Group(backbone, (backbone,), scheme.backbone)}
        if stage is not None:
            groups["prior"] = Group(prior, (stage.module,), scheme.prior)
        name = "variational" if stage is None else f"variational {stage.name}"
        super().__init__(name, scheme.steps, groups, scheme.patience, "loss" if stage is None else STAGE_LOSS)
        self.backbone, self.prior, self.stage, self.mle = backbone, prior, stage, scheme.beta_grad == "mle"

    def start(self, noise: Noise, supplies: Supplies = Supplies()) -> None:
        """Set train mode, and start the stage."""
        super().start(noise, supplies)
        start_stage(self.stage, self.backbone, noise)

    def forward(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return −ELBO, in nats per image. The negative phases of f and p_β replace log Z; they have its gradient."""
        loss = self.backbone.objective(batch, noise.derive("backbone"), progress)
        terms = {**loss.terms, **loss.kl_of_layers}
        if self.stage is None:
            return Loss(loss.total, terms)
        if loss.posterior is None:
            raise ConfigError(
                f"train.type: scheme 'variational' needs the posterior draw in the Loss that "
                f'{type(self.backbone).__name__}.objective returns; use train.type = "two-phase"'
            )
        with frozen(self.prior):  # here f only moves the posterior; `objective` below trains the stage
            tilt = self._tilt().at(self.backbone, loss.posterior.latents).sum(1).mean()
        positive = loss.posterior.detach()
        energy = self.stage.objective(self.backbone, positive, noise.derive("prior"), progress, batch.labels)
        log_z = log_normaliser(self.backbone, energy.negative if self.mle else None)
        total = loss.total - tilt + energy.total + log_z
        return Loss(total, {**terms, **energy.terms, STAGE_LOSS: energy.total.detach(), "tilt": tilt.detach()})

    def _tilt(self) -> Tilt:
        """Return the tilt in the ELBO. Raises `ConfigError` for a prior without one."""
        found = inference_tilt(self.prior, self.stage)
        if found is None:
            raise ConfigError(
                'train.type: scheme "variational" needs a prior with a tilt; use train.type = "two-phase"'
            )
        return found


@recipe
class Variational(SchemeRecipe):
    """Trains the ELBO under the tilted prior: f pulls the inference model to where f is large (arXiv 2306.06323).

    The backbone's `objective` must return its posterior draw, as the default one does.
    """

    infers_by_q: ClassVar[bool] = True

    steps: int = option(5000, doc="largest number of training steps for each stage of the prior", low=0)
    patience: int = option(0, doc=PATIENCE, low=0)
    backbone: Optimization = option(
        factory=lambda: Optimization(learning_rate=3e-4), doc="optimisation of generator and inference model"
    )
    prior: Optimization = option(factory=lambda: Optimization(learning_rate=2e-5), doc="optimisation of the prior")
    beta_grad: str = option(
        "mle",
        doc="gradient of p(z_i|z_above): with the negative phase (mle), or without it (posterior)",
        choices=("mle", "posterior"),
    )

    def phases(self, backbone: Backbone, prior: PriorLearner) -> tuple[Phase, ...]:
        """Return a phase for each stage of the prior, or one for the backbone alone if the prior has none."""
        inferring = require_inference(backbone, "variational")
        require_trainable(backbone, "variational")
        if backbone.layout.context is not None:
            raise ConfigError(
                "train.type: scheme 'variational' does not learn the distribution of a context; "
                "use 'two-phase' for this backbone"
            )
        require_density_of_latents(prior, backbone, "variational")
        stages: tuple[Stage | None, ...] = prior.stages() or (None,)
        return tuple(VariationalPhase(inferring, prior, stage, self) for stage in stages)

    def posterior(self, backbone: Backbone, tilt: Tilt | None, batch: Batch, noise: Noise) -> Posterior:
        """Draw the latents z ~ q(z|x)."""
        return require_inference(backbone, "variational").infer(batch, noise)
