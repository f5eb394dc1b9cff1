"""Ratios of each layer against the base's conditional, learned in parallel and drawn from layer by layer."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.densities import TiltedPrior
from hebm.interfaces import PLAIN, Backbone, Draw, EnergyFn, Info, Loss, PriorLearner, Progress, Request, Sampler, Stage
from hebm.latents import Hold, LatentLayout, Latents, Posterior
from hebm.noise import Noise
from hebm.sampling import Observer, later, run
from hebm_plugins.priors.contrast import bce, contrast_terms
from hebm_plugins.priors.ncp.sir import select


@attrs.frozen
class LayerDrawing:
    """How a layer is drawn given those above it.

    Arguments:
        mode: "sir" or "langevin".
        proposals: P, for sir.
        sampler: the chain, for langevin.
    """

    mode: str
    proposals: int
    sampler: Sampler


class NCPPrior(PriorLearner):
    """p(z) = Π_i r_i(z_i; z_above) p_β(z_i|z_above),   r_i = exp f_i,   each factor normalised at the optimum.

    Arguments:
        base: a root: in u its conditionals are N(0, I).
        energy: f_i, of z_i, and of z_above through μ_i and σ_i alone.
        layout: of the backbone.
        drawing: how a layer is drawn.
    """

    def __init__(self, base: PriorLearner, energy: EnergyFn, layout: LatentLayout, drawing: LayerDrawing) -> None:
        super().__init__()
        self.base, self.energy, self.layout, self.drawing = base, energy, layout, drawing

    def tilt(self, latents: Latents) -> Tensor:
        """f_i, `(B, L)`."""
        return self.energy(latents).squeeze(2)

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> TiltedPrior:
        """Σ_i f_i(T(u)) − |u|²/2."""
        return TiltedPrior(backbone, self.tilt, context)

    # ------------------------------------------------------------ drawing

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = PLAIN) -> Draw:
        """Layer by layer from the top, each given those above; `steps` and `observe` are of Langevin chains.

        Figures of sir: ESS / P of each layer.
        """
        start = self.base.sample(backbone, n, noise.derive("base"), request)
        u, figures, given = start.u, {}, attrs.evolve(request, context=start.context)
        with torch.no_grad():
            for i in range(len(self.layout)):
                source = noise.derive("layer", i)
                if self.drawing.mode == "langevin":
                    u = self._chain(i, backbone, u, source, given)
                else:
                    u, figures[f"ess_layer_{i}"] = self._selected(i, backbone, u, source, given)
        return Draw(u, start.context, figures)

    def _selected(self, i: int, backbone: Backbone, u: Tensor, noise: Noise, request: Request) -> tuple[Tensor, Tensor]:
        """u `(n, D)` with layer i chosen among P proposals, and their ESS / P `(n,)`."""
        here, hold = _layer(self.layout, i), request.hold
        latents = backbone.latents(u, request.context)
        below = self._held_below(i, hold)

        def placed(offered: Tensor) -> Tensor:
            """Offers `(n, C, d)`, held coordinates as given."""
            if hold is None:
                return offered
            return torch.where(hold.held[here], hold.u[:, None, here], offered)

        def log_weight(offered: Tensor) -> Tensor:
            count, layer = offered.shape[1], placed(offered).flatten(0, 1)
            rows = _repeated(latents, count)
            if below:
                moved = rows.u.clone()
                moved[:, here] = layer
                f = self.tilt(backbone.latents(moved, rows.context))[:, [i, *below]].sum(1)
            else:
                f = self.energy.of_layer(redrawn(rows, self.layout, {i: layer}), i).squeeze(1)
            return f.view(-1, count)

        found = select(log_weight, len(u), self.layout.sizes[i], self.drawing.proposals, noise)
        u = u.clone()
        u[:, here] = placed(found.u.unsqueeze(1)).squeeze(1)
        return u, found.share

    def _held_below(self, i: int, hold: Hold | None) -> list[int]:
        """Layers below layer i with held coordinates: their f_j says how well layer i fits what is held."""
        if hold is None:
            return []
        return [j for j in range(i + 1, len(self.layout)) if bool(hold.held[_layer(self.layout, j)].any())]

    def _chain(self, i: int, backbone: Backbone, u: Tensor, noise: Noise, request: Request) -> Tensor:
        """u `(n, D)` with layer i moved by a chain on f_i(T(u)) − |u_i|²/2, all others held."""
        hold, steps = request.hold, self.drawing.sampler.steps if request.steps is None else request.steps
        observe = later(request.observe, i * steps)
        others = torch.ones(self.layout.dim, dtype=torch.bool, device=u.device)
        others[_layer(self.layout, i)] = False
        held = Hold(u, others if hold is None else others | hold.held)
        if bool(held.held.all()):
            return u
        below = self._held_below(i, hold)

        def tilt(latents: Latents) -> Tensor:
            return self.tilt(latents)[:, [i, *below]] if below else self.energy.of_layer(latents, i)

        density = TiltedPrior(backbone, tilt, request.context)
        density.modules = (backbone, self.energy)
        watch = None if observe is None else _whole(observe, held)
        return run(self.drawing.sampler, density, u, noise, steps, watch, held).u

    # ------------------------------------------------------------ learning

    def objective(
        self,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """Σ_i BCE of layer i, z_i⁺ of the posterior against z_i⁻ = z_i⁺ + σ_i(z_above⁺) (ε_i − u_i⁺): all at once.

        There are no chains; the negatives of a layer stand below posterior draws, so they are no draws of a prior.
        """
        positive = posterior.latents
        fresh = self.layout.split(noise.derive("negative").normal(*positive.u.shape))
        negative = redrawn(positive, self.layout, {i: part.flatten(1) for i, part in enumerate(fresh)})
        on_positive, on_negative = self.tilt(positive), self.tilt(negative)
        return Loss(bce(on_positive, on_negative).sum(), contrast_terms(on_positive, on_negative))

    def stages(self) -> tuple[Stage, ...]:
        """The base's, then the classifiers of all layers."""
        return (*super().stages(), Stage("prior", self.energy, self.objective))


def redrawn(latents: Latents, layout: LatentLayout, fresh: dict[int, Tensor]) -> Latents:
    """Layers with another u_i each, given the layers above as they were: z_i + σ_i (u_i' − u_i).

    Each is a point of its own: what was redrawn above it does not count.

    Arguments:
        latents: B points.
        layout: of them.
        fresh: u_i' `(B, d_i)` by layer.
    """
    old, z = layout.split(latents.u), list(latents.z)
    u = list(old)
    for i, part in fresh.items():
        u[i] = part.view_as(old[i])
        z[i] = latents.z[i] + latents.sigma[i] * (u[i] - old[i])
    return Latents(layout.join(u), tuple(z), latents.sigma, latents.context)


def _layer(layout: LatentLayout, i: int) -> slice:
    """Where layer i lies in u."""
    first = sum(layout.sizes[:i])
    return slice(first, first + layout.sizes[i])


def _repeated(latents: Latents, count: int) -> Latents:
    """Each row so many times in a row."""

    def rows(part: Tensor) -> Tensor:
        return part.repeat_interleave(count, 0)

    sigma = tuple(rows(s.expand_as(z)) for s, z in zip(latents.sigma, latents.z, strict=True))
    context = None if latents.context is None else rows(latents.context)
    return Latents(rows(latents.u), tuple(map(rows, latents.z)), sigma, context)


def _whole(observe: Observer, hold: Hold) -> Observer:
    """An observer of whole u `(n, D)`; the gradient is 0 where u is held."""

    def whole(step: int, state: Any, info: Info) -> None:
        grad = torch.zeros_like(hold.u).masked_scatter(~hold.held, info.grad)
        observe(step, (hold.filled(state[0]),), Info(info.value, grad, info.accepted))

    return whole
