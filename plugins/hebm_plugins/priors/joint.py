"""The joint latent-space energy-based prior, by maximum likelihood with short-run chains."""

from __future__ import annotations

from torch import Tensor, nn

from hebm.config.recipe import option, recipe
from hebm.densities import TiltedPrior
from hebm.gaussian import Gaussian
from hebm.interfaces import (
    PLAIN,
    Backbone,
    Draw,
    EnergyFn,
    EnergyRecipe,
    Loss,
    PriorLearner,
    PriorRecipe,
    Progress,
    Request,
    Sampler,
    Stage,
    check_base,
)
from hebm.latents import Latents, Posterior
from hebm.noise import Noise
from hebm.sampling import run
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.samplers.ula import ULA


class JointPrior(PriorLearner):
    """log p(u) = f(T(u)) − |u|²/2 − log Z, f = Σ_i f_i.

    Arguments:
        base: draws the start of every chain, and the context.
        energy: f, with one output per energy.
        sampler: the short-run chain, in training and after it: the model is what this chain draws.
        official_target: subtract Σ log σ(u) in the chain's target, as the published two-stage code does.
    """

    def __init__(self, base: PriorLearner, energy: EnergyFn, sampler: Sampler, official_target: bool = False) -> None:
        super().__init__()
        self.base, self.energy, self.sampler, self.official_target = base, energy, sampler, official_target

    @property
    def labelled(self) -> bool:
        """Whether the base is: it draws where chains start."""
        return self.base is not None and self.base.labelled

    def tilt(self, latents: Latents) -> Tensor:
        """f_i, `(B, E)`."""
        return self.energy(latents).squeeze(2)

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> TiltedPrior:
        """f(T(u)) − |u|²/2, less Σ log σ(u) for the official target."""
        return TiltedPrior(backbone, self.tilt, context, jacobian=self.official_target)

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = PLAIN) -> Draw:
        """A short-run chain from a draw of the base, its context held."""
        start = self.base.sample(backbone, n, noise.derive("base"), request)
        density = self.density(backbone, start.context)
        chain = run(self.sampler, density, start.u, noise.derive("chain"), request.steps, request.observe, request.hold)
        return Draw(chain.u, start.context)

    def objective(
        self,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """E[f(z⁻)] − E[f(z⁺)], whose gradient is that of −log likelihood; z⁻ from a chain with the context of z⁺."""
        positive = posterior.latents
        request = Request(labels, positive.context)
        start = self.base.sample(backbone, len(positive.u), noise.derive("base"), request)
        density = self.density(backbone, positive.context)
        chain = run(self.sampler, density, start.u, noise.derive("chain"))
        negative = backbone.latents(chain.u, positive.context).detach()
        f_positive, f_negative = self.tilt(positive).sum(1).mean(), self.tilt(negative).sum(1).mean()
        terms = {
            "f_positive": f_positive.detach(),
            "f_negative": f_negative.detach(),
            "nonfinite_chains": chain.nonfinite.to(f_positive.dtype),
        }
        return Loss(f_negative - f_positive, terms, negative)

    def stages(self) -> tuple[Stage, ...]:
        """The base's, then the energy."""
        module: nn.Module = self.energy
        return (*super().stages(), Stage("prior", module, self.objective))


@recipe
class Joint(PriorRecipe):
    """The joint EBM prior (arXiv 2306.06323): energies of all layers, one short-run chain over all of them.

    Where paper and published two-stage code disagree: `target = "exact"` is the density in u that the papers derive
    (arXiv 2405.13910, Eq. 8); `target = "official"` evaluates the z-space log density in u, keeping its −Σ log σ.
    The published two-stage settings are `steps = 10, step_size = 1e-5`; with them a chain hardly moves.
    """

    energy: EnergyRecipe = option(factory=MLP, doc="f, the log tilt")
    sampler: Sampler = option(factory=lambda: ULA(steps=40, step_size=0.1), doc="the short-run chain")
    base: PriorRecipe = option(factory=Gaussian, doc="the prior that is tilted")
    target: str = option("exact", doc="density of the chain", choices=("exact", "official"))

    def build(self, backbone: Backbone) -> JointPrior:
        """Checks that the base draws the context that the backbone expects."""
        base = self.base.build(backbone)
        check_base(base, backbone.layout)
        energy = self.energy.build(backbone.layout)
        return JointPrior(base, energy, self.sampler, self.target == "official")
