"""A chain of conditional energy-based models over u, from noise to the posterior's latents."""

from __future__ import annotations

from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from hebm.densities import ConditionalPrior
from hebm.interfaces import (
    MCMC,
    Backbone,
    Draw,
    EnergyFn,
    Fixed,
    ImageSpec,
    Latents,
    Loss,
    Noise,
    Posterior,
    PriorLearner,
    Progress,
    Request,
    Sampler,
    Tilt,
    Transition,
    seen_by,
)
from hebm.sampling import run
from hebm_plugins.priors.diffusion.schedule import Schedule
from hebm_plugins.priors.labels import Coupling


class Pair(NamedTuple):
    """u_t and u_{t+1}, two successive levels of the forward process, `(B, D)` each."""

    u: Tensor
    above: Tensor


@attrs.frozen(eq=False)
class Levels:
    """The coefficients of each level t, `(T,)` each.

    Arguments:
        forward: the noise schedule of the forward process from u_0.
        alpha, sigma: α_{t+1} and σ_{t+1}, coefficients of the step from t to t + 1.
        recovery: m_t, the weight of the localising term.
        energy_scale: b_t, which divides f in the density and in the loss.
        scale: factor of the sampler's step size.
    """

    forward: Schedule
    alpha: Tensor
    sigma: Tensor
    recovery: Tensor
    energy_scale: Tensor
    scale: Tensor

    def at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """Return the coefficient `name` at levels t `(B,)`, as `(B, 1)` with the device and type of `like`."""
        coefficient: Tensor = getattr(self, name)
        return coefficient.to(like)[t].unsqueeze(1)


class DiffusionPrior(PriorLearner):
    """log p(u_t | u_{t+1}) = f(T(u_t), t) / b_t − |u_t|²/2 − m_t |α_{t+1} u_t − u_{t+1}|² / (2σ_{t+1}²) − log Z,
    t = T − 1 … 0, from u_T of the root (arXiv 2405.13910, Eq. 13).

    Arguments:
        root: draws u_T and the context.
        energy: f, with T levels.
        sampler: runs the short chain of each level.
        levels: the coefficients of the levels.
        coupling: assigns labels to energies.
        every_level: whether labels guide every level, or only level 0.
        label_weight: weight of the labels' cross-entropy in the loss.
        fold: compute what depends only on weights and t once per chain.
    """

    root: PriorLearner

    def __init__(
        self,
        root: PriorLearner,
        energy: EnergyFn,
        sampler: Sampler,
        levels: Levels,
        coupling: Coupling,
        every_level: bool = False,
        label_weight: float = 1.0,
        fold: bool = True,
    ) -> None:
        super().__init__()
        self.reads = ("latents",)
        self.root, self.energy, self.sampler, self.levels = root, energy, sampler, levels
        self.coupling, self.every_level, self.label_weight, self.fold = coupling, every_level, label_weight, fold

    @property
    def labelled(self) -> bool:
        """Whether any energy carries a label."""
        return self.coupling.labelled

    def check(self, images: ImageSpec) -> None:
        """Raise `ConfigError` unless the images have as many classes or attributes as the prior."""
        self.coupling.check(images)

    def tilt(self, latents: Latents) -> Tensor:
        """Return f_i(z_i, 0), `(B, E)`, summed over labels."""
        t = _level(0, latents.u)
        return self.coupling.tilt(self.energy(latents, t), self.levels.at("energy_scale", t, latents.u))

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Return None: the marginal of a chain of conditionals is not known, even up to a constant."""

    # ------------------------------------------------------------ the reverse process

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List one chain per level t = T − 1 … 0, each from u_{t+1}.

        At level t, fixed coordinates have the noise of that level: they are set to u_t of the forward process.
        """
        return tuple(self._transition(backbone, t) for t in reversed(range(self.levels.forward.levels)))

    def _transition(self, backbone: Backbone, t: int) -> Transition:
        def noised(at: Draw, noise: Noise, fixed: Fixed | None) -> Fixed | None:
            if fixed is None:
                return None
            return fixed.moved(self.diffused(fixed.u, _level(t, fixed.u), noise.derive("held", t)))

        def target(at: Draw, request: Request) -> ConditionalPrior:
            return self._conditional(backbone, _level(t, at.u), at.u, at.context, request.labels)

        return MCMC(name=f"level {t}", sampler=self.sampler, density=target, key=("chain", t), fixed=noised)

    def _conditional(
        self, backbone: Backbone, t: Tensor, above: Tensor, context: Tensor | None, labels: Tensor | None = None
    ) -> ConditionalPrior:
        """Return p(u_t | u_{t+1}) at levels t `(B,)`, given u_{t+1} `(B, D)`."""
        pick = self.levels.at
        energy, guide = self.energy.folded(t) if self.fold else self.energy, self._guiding(t, labels)
        scale = pick("energy_scale", t, above)
        tilt = Tilt(lambda latents: self.coupling.tilt(energy(latents, t), scale, guide), (self.energy,))
        alpha, sigma, recovery, size = (pick(name, t, above) for name in ("alpha", "sigma", "recovery", "scale"))
        return ConditionalPrior(backbone, tilt, above, alpha, sigma, recovery, scale, size, context)

    def _guiding(self, t: Tensor, labels: Tensor | None) -> Tensor | None:
        """Return the labels where they guide level t, and −1 (any) elsewhere; None without labels."""
        if labels is None or not self.labelled:
            return None
        guided = (t == 0) | torch.full_like(t, self.every_level, dtype=torch.bool)
        mask = guided.view(-1, *[1] * (labels.ndim - 1))
        return torch.where(mask, labels, torch.full_like(labels, -1))

    def regenerate(
        self, backbone: Backbone, latents: Latents, fixed: Fixed, noise: Noise, path: tuple[Transition, ...]
    ) -> Tensor:
        """Redraw the free coordinates of latents.

        The forward process moves the fixed coordinates to level 1, and the reverse process draws the other coordinates
        at that level. The last reverse level then moves all coordinates to level 0 (arXiv 2405.13910, section 5.3).
        """
        *above, last = path
        given = Request(context=latents.context)
        at_one = fixed.moved(self.diffused(latents.u, _level(1, latents.u), noise.derive("forward")))
        at = self.root.sample(backbone, len(latents), noise.derive("base"), given)
        for transition in above:
            at = transition.move(at, noise, given)
        return last.move(at.fixed_as(at_one), noise, given).u

    # ------------------------------------------------------------ the forward process and the loss

    def diffused(self, u: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Return u_t = ᾱ_t u_0 + σ̄_t ε, `(B, D)`, at levels t `(B,)`."""
        forward = self.levels.forward
        alpha, sigma = (c.to(u)[t].unsqueeze(1) for c in (forward.alpha_cum, forward.sigma_cum))
        return alpha * u + sigma * noise.normal(*u.shape)

    def pair(self, u: Tensor, t: Tensor, noise: Noise) -> Pair:
        """Return u_t and u_{t+1} = α_{t+1} u_t + σ_{t+1} ε' for posterior draws u `(B, D)`."""
        low = self.diffused(u, t, noise)
        pick = self.levels.at
        return Pair(low, pick("alpha", t, u) * low + pick("sigma", t, u) * noise.normal(*u.shape))

    def objective(
        self,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """Return E_t[(f(z_t⁻, t) − f(z_t⁺, t)) / b_t], t uniform, z_t⁻ from a chain that starts at u_{t+1}.

        With labels, their cross-entropy on z_t⁺ is added at the levels that they guide.
        """
        u, context = posterior.latents.u, posterior.latents.context
        t = noise.derive("level").integers(self.levels.forward.levels, len(u))
        pair = self.pair(u, t, noise.derive("forward"))
        chain = run(
            self.sampler, self._conditional(backbone, t, pair.above, context), pair.above, noise.derive("chain")
        )
        with torch.no_grad():
            positive, negative = (seen_by(self, backbone, at, context).detach() for at in (pair.u, chain.u))
        energy = self.energy.perturbed(noise.derive("energy"))
        logits, scale = energy(positive, t), self.levels.at("energy_scale", t, u)
        f_positive = self.coupling.tilt(logits, scale)
        f_negative = self.coupling.tilt(energy(negative, t), scale)
        loss = ((f_negative - f_positive) / scale).sum(1).mean()
        terms = {
            "f_positive": f_positive.detach().sum(1).mean(),
            "f_negative": f_negative.detach().sum(1).mean(),
            "contrast": loss.detach(),
            "nonfinite_chains": chain.nonfinite.to(u.dtype),
        }
        whole = Loss(loss, terms).plus("penalty", self.energy.penalty(positive, t))
        if not self.labelled:
            return whole
        return whole.plus("cross_entropy", self._cross_entropy(logits, scale, t, labels), self.label_weight)

    def _cross_entropy(self, logits: Tensor, scale: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean cross-entropy of the labels over the batch, at the levels that they guide."""
        labels = self._guiding(t, labels)
        return self.coupling.cross_entropy(logits, scale, labels).mean()


def _level(t: int, like: Tensor) -> Tensor:
    """Return level t for every row, `(B,)`."""
    return torch.full((len(like),), t, device=like.device)
