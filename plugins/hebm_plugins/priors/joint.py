"""The joint latent-space energy-based prior, learned by maximum likelihood with short-run chains."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.gaussian import Gaussian
from hebm.interfaces import (
    MCMC,
    Backbone,
    EnergyFn,
    EnergyRecipe,
    Latents,
    Loss,
    Noise,
    Posterior,
    PriorLearner,
    PriorRecipe,
    Progress,
    Request,
    Sampler,
    Tilt,
    TiltedPrior,
    Transition,
    build_energy,
    build_root,
    build_start,
    own_gradients,
    seen_by,
    starting,
)
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.starts import START, START_PROPOSALS
from hebm_plugins.samplers.ula import ULA


class JointPrior(PriorLearner):
    """log p(u) = f(T(u)) − |u|²/2 − log Z, f = Σ_i f_i.

    Arguments:
        root: draws the context, and by default the start of every chain.
        energy: f, with one output per energy.
        sampler: runs the short chain, in training and after it. The learned f fits this chain.
        official_target: subtract Σ log σ(u) from the chain's target, as the published two-stage code does.
        start_proposals: P; if above 1, a chain starts at one of P draws, chosen with weights exp f.
        start: the prior whose draws are the starts of chains; None for the root.
    """

    def __init__(
        self,
        root: PriorLearner,
        energy: EnergyFn,
        sampler: Sampler,
        official_target: bool = False,
        start_proposals: int = 1,
        start: PriorLearner | None = None,
    ) -> None:
        super().__init__()
        self.root, self.energy, self.sampler, self.official_target = root, energy, sampler, official_target
        self.reads = ()
        self.start_proposals, self.start = start_proposals, start

    def tilt(self, latents: Latents) -> Tensor:
        """Return f_i, `(B, E)`."""
        f: Tensor = self.energy(latents).squeeze(2)
        return f

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> TiltedPrior:
        """Return the density f(T(u)) − |u|²/2, minus Σ log σ(u) for the official target."""
        tilt = Tilt(self.tilt, (self.energy,), gradients=own_gradients(self.energy))
        return TiltedPrior(backbone, tilt, context, jacobian=self.official_target)

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List the choice of the chain's start, if there is one, and the chain on the density."""
        target = lambda at, request: self.density(backbone, at.context)  # noqa: E731
        chain = MCMC(name="prior", sampler=self.sampler, density=target)
        return *starting(self, backbone, target, self.start_proposals), chain

    def objective(
        self, backbone: Backbone, posterior: Posterior, noise: Noise, progress: Progress, labels: Tensor | None = None
    ) -> Loss:
        """Return E[f(z⁻)] − E[f(z⁺)], whose gradient is that of the negative log likelihood.

        z⁺ are posterior draws, and z⁻ are draws of the prior with the contexts of z⁺.
        """
        positive = posterior.latents
        draw = self.sample(backbone, len(positive), noise, Request(context=positive.context))
        with torch.no_grad():
            negative = seen_by(self.energy, backbone, draw.u, draw.context).detach()
        energy = self.energy.perturbed(noise.derive("energy"))
        f_positive, f_negative = (energy(at).sum((1, 2)).mean() for at in (positive, negative))
        terms = {
            "f_positive": f_positive.detach(),
            "f_negative": f_negative.detach(),
            "nonfinite_chains": (~draw.u.isfinite().all(1)).sum().to(f_positive.dtype),
        }
        return Loss(f_negative - f_positive, terms, negative).plus("penalty", self.energy.penalty(positive))


@recipe
class Joint(PriorRecipe):
    """log p(u) = f(T(u)) + log N(u; 0, I) − log Z, f = Σ_i f_i: the joint EBM prior (arXiv 2306.06323).

    f is learned by maximum likelihood, with one short-run chain over all layers. The papers and the published two-stage
    code differ in the chain's target. `target = "exact"` is the density in u of the papers (arXiv 2405.13910, Eq. 8).
    `target = "official"` is the log density of z evaluated in u, which keeps the term −Σ log σ. The published two-stage
    settings are `steps = 10, step_size = 1e-5`, with which a chain hardly moves.

    Example:
        >>> from hebm import ImageSpec, Noise, TwoLayer
        >>> backbone = TwoLayer(z_dims=(2, 8)).build(ImageSpec(1, 28, 28))
        >>> prior = Joint(sampler=ULA(steps=5)).build(backbone)
        >>> prior.sample(backbone, 4, Noise(0)).u.shape
        torch.Size([4, 10])
    """

    energy: EnergyRecipe = option(factory=MLP, doc="f, the log tilt")
    sampler: Sampler = option(
        factory=lambda: ULA(steps=40, step_size=0.1), doc="the short-run chain, in training and after it"
    )
    root: PriorRecipe = option(
        factory=Gaussian, doc="the prior that is tilted; its draws are the starts of chains", renamed_from="base"
    )
    target: str = option("exact", doc="target density of the chain", choices=("exact", "official"))
    start: PriorRecipe | None = option(None, doc=START)
    start_proposals: int = option(1, doc=START_PROPOSALS, low=1)

    def build(self, backbone: Backbone) -> JointPrior:
        """Build the prior. Raises `ConfigError` if the root, energy or start does not fit the backbone."""
        root, energy = build_root(self.root, backbone), build_energy(self.energy, backbone.layout)
        start, official = build_start(self.start, backbone), self.target == "official"
        return JointPrior(root, energy, self.sampler, official, self.start_proposals, start)
