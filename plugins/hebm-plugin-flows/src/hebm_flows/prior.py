"""A prior whose density is that of flows: exact draws, an exact density, and maximum likelihood without chains."""

from __future__ import annotations

import torch
from hebm.interfaces import (
    MCMC,
    Backbone,
    Draw,
    Exact,
    Fixed,
    HeldOutLoss,
    LatentLayout,
    Latents,
    Loss,
    Noise,
    Posterior,
    PriorLearner,
    Progress,
    Request,
    RowCache,
    Sampler,
    Tilt,
    TiltedPrior,
    Transition,
    seen_by,
)
from hebm.perturbations import view
from torch import Tensor

from hebm_flows.factors import Factor, Factors

STATISTICS_FROM = 512
"""The number of draws of the root that give the mean and deviation of the features."""


class FlowPrior(PriorLearner):
    """p(u) = Π_i p(u_i | c_i(z_above)), each factor a flow.

    Its tilt of the root is f_i = log p(u_i | c_i) − log N(u_i; 0, I), with log Z = 0.

    A draw maps the root's u ~ N(0, I) through the flows, top first, so it needs no further noise. If a request fixes
    coordinates other than whole layers at the top, a chain on the density, which starts at such a draw, gives the
    others.

    Arguments:
        root: draws u ~ N(0, I) and the context.
        factors: p(u_i | c_i), top first.
        layout: the backbone's latent layout.
        sampler: the chain for draws with fixed coordinates.
    """

    root: PriorLearner

    def __init__(self, root: PriorLearner, factors: Factors, layout: LatentLayout, sampler: Sampler) -> None:
        super().__init__()
        self.reads = ("u",)
        self.root, self.factors, self.layout, self.sampler = root, factors, layout, sampler

    @property
    def log_z(self) -> float:
        """0, since every factor is normalised."""
        return 0.0

    def tilt(self, latents: Latents) -> Tensor:
        """Return f of each flow, `(B, E)`, in nats."""
        return self.factors.log_ratios(latents)

    # ------------------------------------------------------------ drawing

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List one exact move for each flow, top first."""
        return tuple(self._transition(factor, backbone) for factor in self.factors)

    def _transition(self, factor: Factor, backbone: Backbone) -> Transition:
        last = factor.place.stop == self.layout.dim

        def drawn(at: Draw, noise: Noise, request: Request) -> Draw:
            moved = self._drawn(factor, backbone, at.fixed_as(request.fixed), request.fixed)
            if not last or self._ancestral(request.fixed):
                return moved
            return self._chain(backbone).move(moved.fixed_as(request.fixed), noise, request)

        return Exact(name=factor.name, apply=drawn)

    def _drawn(self, factor: Factor, backbone: Backbone, at: Draw, fixed: Fixed | None) -> Draw:
        """Return the draw with the coordinates of one factor mapped from noise; a layer that is fixed stays."""
        if fixed is not None and bool(fixed.mask[factor.place].all()):
            return at
        latents = seen_by(factor, backbone, at.u, at.context)
        u = at.u.clone()
        u[:, factor.place] = factor.drawn(at.u[:, factor.place], latents)
        return at.moved(u).fixed_as(fixed)

    def _ancestral(self, fixed: Fixed | None) -> bool:
        """Return whether draws factor by factor are exact: only whole layers at the top are fixed."""
        if fixed is None:
            return True
        whole = [bool(fixed.mask[factor.place].all()) for factor in self.factors]
        none = [not bool(fixed.mask[factor.place].any()) for factor in self.factors]
        count = whole.index(False) if False in whole else len(whole)
        return all(none[count:])

    def _chain(self, backbone: Backbone) -> MCMC:
        """Return the chain on log p(u) that a request with fixed coordinates needs."""
        tilt = Tilt(self.tilt, (self.factors,))
        target = lambda at, request: TiltedPrior(backbone, tilt, at.context)  # noqa: E731
        return MCMC(name="given", sampler=self.sampler, density=target)

    # ------------------------------------------------------------ learning

    def prepare(self, backbone: Backbone, noise: Noise, cache: RowCache) -> None:
        """Standardise the features by draws of the root."""
        with torch.no_grad():
            draw = self.root.sample(backbone, STATISTICS_FROM, noise)
            self.factors.standardise(seen_by(self.factors, backbone, draw.u, draw.context))

    def objective(
        self, backbone: Backbone, posterior: Posterior, noise: Noise, progress: Progress, labels: Tensor | None = None
    ) -> Loss:
        """Return −E[f(u)] over posterior draws, in nats: the negative log likelihood, with that of N(0, I) as 0."""
        return self._loss(view(self.factors, noise.derive("flows")), posterior)

    def held_out(self, backbone: Backbone, posterior: Posterior, noise: Noise) -> HeldOutLoss:
        """Return the loss on held-out images, without dropout."""
        return HeldOutLoss(len(posterior.latents), lambda: self._loss(self.factors, posterior))

    def _loss(self, factors: Factors, posterior: Posterior) -> Loss:
        gains = factors.log_ratios(posterior.latents).mean(0)
        terms = {f"gain_{factor.name}".replace(" ", "_"): g.detach() for factor, g in zip(factors, gains, strict=True)}
        return Loss(-gains.sum(), terms)
