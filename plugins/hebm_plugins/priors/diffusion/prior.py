"""A chain of conditional energy-based models over u, from noise to the posterior's latents."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from hebm.densities import ConditionalPrior
from hebm.errors import ConfigError
from hebm.interfaces import (
    PLAIN,
    Backbone,
    Draw,
    EnergyFn,
    ImageSpec,
    Loss,
    PriorLearner,
    Progress,
    Request,
    Sampler,
    Stage,
)
from hebm.latents import Hold, Latents, Posterior
from hebm.noise import Noise
from hebm.sampling import Chain, later, run
from hebm_plugins.priors.diffusion.schedule import Schedule
from hebm_plugins.priors.labels import Coupling


class Pair(NamedTuple):
    """Neighbouring levels of the forward process, `(B, D)` each."""

    u: Tensor
    above: Tensor


@attrs.frozen(eq=False)
class Levels:
    """What depends on the level t alone, each `(T,)`.

    Arguments:
        forward: of the forward process from u_0.
        alpha, sigma: of the step from t to t + 1.
        recovery: weight of the localising term.
        energy_scale: b_t, which divides f in the density and in the loss.
        scale: of the sampler's step size.
    """

    forward: Schedule
    alpha: Tensor
    sigma: Tensor
    recovery: Tensor
    energy_scale: Tensor
    scale: Tensor

    def at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """One of them at levels t `(B,)`, `(B, 1)` on the device and of the type of `like`."""
        return getattr(self, name).to(like)[t].unsqueeze(1)


class DiffusionPrior(PriorLearner):
    """log p(u_t | u_{t+1}) = f(T(u_t), t) / b_t − |u_t|²/2 − m_t |α_{t+1} u_t − u_{t+1}|² / (2σ_{t+1}²) − log Z,
    t = T − 1 … 0, from u_T of the base (arXiv 2405.13910, Eq. 13).

    Arguments:
        base: draws u_T, and the context.
        energy: f, with T levels.
        sampler: the short-run chain of each level.
        levels: the coefficients.
        coupling: labels and energies.
        every_level: labels guide every level, not level 0 alone.
        label_weight: of the cross-entropy.
        fold: compute what depends on weights and t alone once a chain.
    """

    def __init__(
        self,
        base: PriorLearner,
        energy: EnergyFn,
        sampler: Sampler,
        levels: Levels,
        coupling: Coupling,
        every_level: bool = False,
        label_weight: float = 1.0,
        fold: bool = True,
    ) -> None:
        super().__init__()
        self.base, self.energy, self.sampler, self.levels = base, energy, sampler, levels
        self.coupling, self.every_level, self.label_weight, self.fold = coupling, every_level, label_weight, fold
        self.lowest = 0  # the level at which draws end: see `milestones`

    @property
    def labelled(self) -> bool:
        """Whether labels are coupled to an energy."""
        return self.coupling.labelled

    def check(self, images: ImageSpec) -> None:
        """Raises `ConfigError` unless the images have as many classes or attributes as labels were made for."""
        super().check(images)
        self.coupling.check(images)

    def tilt(self, latents: Latents) -> Tensor:
        """f_i(z_i, 0), `(B, E)`: summed over labels."""
        t = _level(0, latents.u)
        return self.coupling.tilt(self.energy(latents, t), self.levels.at("energy_scale", t, latents.u))

    # ------------------------------------------------------------ the reverse process

    def level(
        self,
        backbone: Backbone,
        t: Tensor,
        above: Tensor,
        noise: Noise,
        request: Request = PLAIN,
    ) -> Chain:
        """A short-run chain on p(u_t | u_{t+1}) from u_{t+1}.

        Arguments:
            backbone: gives T.
            t: level of each row, `(B,)`.
            above: u_{t+1}, `(B, D)`.
            noise: of the chain.
            request: its context is held, labels count where this level heeds them, coordinates held are of u_t.
        """
        pick = self.levels.at
        density = ConditionalPrior(
            backbone,
            self._tilt(t, pick("energy_scale", t, above), self._heeded(t, request.labels)),
            above,
            *(pick(name, t, above) for name in ("alpha", "sigma", "recovery", "energy_scale", "scale")),
            request.context,
        )
        density.modules = (backbone, self.energy)
        return run(self.sampler, density, above, noise, request.steps, request.observe, request.hold)

    def _tilt(self, t: Tensor, scale: Tensor, labels: Tensor | None) -> Callable[[Latents], Tensor]:
        energy = self.energy.folded(t) if self.fold else self.energy
        return lambda latents: self.coupling.tilt(energy(latents, t), scale, labels)

    def _heeded(self, t: Tensor, labels: Tensor | None) -> Tensor | None:
        """The labels that guide level t: at level 0, or everywhere."""
        if labels is None or not self.labelled:
            return None
        heeded = (t == 0) | torch.full_like(t, self.every_level, dtype=torch.bool)
        mask = heeded.view(-1, *[1] * (labels.ndim - 1))
        return torch.where(mask, labels, torch.full_like(labels, -1))

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = PLAIN) -> Draw:
        """u_T from the base, then a chain at each level t = T − 1 … 0; `observe` counts steps over all of them.

        Coordinates that are held are, at level t, their own noisy version u_t.
        """
        start = self.base.sample(backbone, n, noise.derive("base"), attrs.evolve(request, hold=None))
        u, hold = start.u, request.hold
        steps = self.sampler.steps if request.steps is None else request.steps
        for t in reversed(range(self.lowest, self.levels.forward.levels)):
            held = None if hold is None else hold.moved(self.diffused(hold.u, _level(t, u), noise.derive("held", t)))
            watch = later(request.observe, (self.levels.forward.levels - 1 - t) * steps)
            here = Request(request.labels, start.context, steps, watch, held)
            u = self.level(backbone, _level(t, u), u, noise.derive("chain", t), here).u
        return Draw(u if hold is None else hold.apply(u), start.context)

    def milestones(self) -> Mapping[str, DiffusionPrior]:
        """Draws that end at level t, T − 1 … 0: u_t, still with its noise."""
        return {f"level {t}": self._down_to(t) for t in reversed(range(self.levels.forward.levels))}

    def _down_to(self, lowest: int) -> DiffusionPrior:
        prior = copy.copy(self)
        prior.lowest = lowest
        return prior

    def regenerate(self, backbone: Backbone, latents: Latents, held: Tensor, noise: Noise) -> Tensor:
        """Held coordinates are moved to level 1 by the forward process, the others are drawn there by the reverse
        process; one reverse level takes all of them to level 0 (arXiv 2405.13910, section 5.3).
        """
        u, given = latents.u, Request(context=latents.context)
        at_one = self.diffused(u, _level(1, u), noise.derive("forward"))
        drawn = self.base.sample(backbone, len(u), noise.derive("base"), given).u
        for t in reversed(range(1, self.levels.forward.levels)):
            drawn = self.level(backbone, _level(t, u), drawn, noise.derive("chain", t), given).u
        above = Hold(at_one, held).apply(drawn)
        return self.level(backbone, _level(0, u), above, noise.derive("chain", 0), given).u

    # ------------------------------------------------------------ the forward process and the loss

    def diffused(self, u: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """u_t = ᾱ_t u_0 + σ̄_t ε, `(B, D)`; t `(B,)`."""
        forward = self.levels.forward
        alpha, sigma = (c.to(u)[t].unsqueeze(1) for c in (forward.alpha_cum, forward.sigma_cum))
        return alpha * u + sigma * noise.normal(*u.shape)

    def pair(self, u: Tensor, t: Tensor, noise: Noise) -> Pair:
        """u_t, and u_{t+1} = α_{t+1} u_t + σ_{t+1} ε', of posterior draws u `(B, D)`."""
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
        """E_t[(f(z_t⁻, t) − f(z_t⁺, t)) / b_t], t uniform per sample, z_t⁻ from a chain started at u_{t+1}; with
        labels also their cross-entropy on z_t⁺ where they are coupled.
        """
        u, context = posterior.latents.u, posterior.latents.context
        t = noise.derive("level").integers(self.levels.forward.levels, len(u))
        pair = self.pair(u, t, noise.derive("forward"))
        chain = self.level(backbone, t, pair.above, noise.derive("chain"), Request(context=context))
        with torch.no_grad():
            positive, negative = (backbone.latents(at, context).detach() for at in (pair.u, chain.u))
        logits, scale = self.energy(positive, t), self.levels.at("energy_scale", t, u)
        f_positive = self.coupling.tilt(logits, scale)
        f_negative = self.coupling.tilt(self.energy(negative, t), scale)
        loss = ((f_negative - f_positive) / scale).sum(1).mean()
        terms = {
            "f_positive": f_positive.detach().sum(1).mean(),
            "f_negative": f_negative.detach().sum(1).mean(),
            "contrast": loss.detach(),
            "nonfinite_chains": chain.nonfinite.to(u.dtype),
        }
        if not self.labelled:
            return Loss(loss, terms)
        entropy = self._cross_entropy(logits, scale, t, labels)
        return Loss(loss + self.label_weight * entropy, {**terms, "cross_entropy": entropy.detach()})

    def _cross_entropy(self, logits: Tensor, scale: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Its mean over the batch, of the levels that carry labels."""
        labels = self._heeded(t, labels)
        if labels is None:
            raise ConfigError("prior: it was made for labels, these images have none; set classes and attributes to 0")
        return self.coupling.cross_entropy(logits, scale, labels).mean()

    def stages(self) -> tuple[Stage, ...]:
        """The base's, then the energies of all levels."""
        return (*super().stages(), Stage("prior", self.energy, self.objective))


def _level(t: int, like: Tensor) -> Tensor:
    """Level t for every row, `(B,)`."""
    return torch.full((len(like),), t, device=like.device)
