"""The noise-contrastive prior: one density ratio per layer, learned in parallel and sampled layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from hebm.contrasts import bce
from hebm.interfaces import (
    MCMC,
    Backbone,
    Contrasted,
    Draw,
    EnergyFn,
    Exact,
    Fixed,
    LatentLayout,
    Latents,
    Loss,
    Noise,
    Posterior,
    PriorLearner,
    Progress,
    Request,
    Sampler,
    Tilt,
    TiltedPrior,
    Transition,
    seen_by,
)
from hebm.particles import select
from hebm_plugins.priors.contrast import contrast_terms

_NUMBERS = 2**25
"""The most numbers of repeated latents and features in memory at a time: 128 MiB in float32."""


@attrs.frozen
class LayerDrawing:
    """Settings for drawing a layer given the layers above it.

    Arguments:
        mode: "sir" or "langevin".
        proposals: P, the number of proposals for "sir".
        sampler: runs the chain for "langevin".
    """

    mode: str
    proposals: int
    sampler: Sampler


class NCPPrior(PriorLearner):
    """p(z) = Π_i r_i(z_i; z_above) p_β(z_i|z_above),   r_i = exp f_i,   each factor normalised at the optimum.

    Arguments:
        root: draws the context. Its conditionals in u are N(0, I).
        energy: f_i(z_i; z_above). It may depend on z_above only through μ_i and σ_i or the decoder's feature.
        layout: the backbone's latent layout.
        drawing: settings for drawing a layer.
    """

    def __init__(self, root: PriorLearner, energy: EnergyFn, layout: LatentLayout, drawing: LayerDrawing) -> None:
        super().__init__()
        self.reads = ("latents",)
        self.root, self.energy, self.layout, self.drawing = root, energy, layout, drawing

    def tilt(self, latents: Latents) -> Tensor:
        """Return f_i, `(B, L)`."""
        f: Tensor = self.energy(latents).squeeze(2)
        return f

    # ------------------------------------------------------------ drawing

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List one transition per layer, top first, each given the layers above. SIR reports ESS / P of each layer."""
        layer = self._chain if self.drawing.mode == "langevin" else self._choice
        return tuple(layer(i, backbone) for i in range(len(self.layout)))

    def _choice(self, i: int, backbone: Backbone) -> Transition:
        """Return the transition that chooses layer i among P proposals."""

        def chosen(at: Draw, noise: Noise, request: Request) -> Draw:
            found = _Selection(self, i, backbone, at.fixed_as(request.fixed), request.fixed)
            return found.draw(self.drawing.proposals, noise)

        return Exact(name=f"layer {i}", apply=chosen, key=("layer", i))

    def _chain(self, i: int, backbone: Backbone) -> Transition:
        """Return a chain on f_i(T(u)) − |u_i|²/2 that moves only layer i."""
        others = torch.ones(self.layout.dim, dtype=torch.bool)
        others[self.layout.place(i)] = False

        def fixed(at: Draw, noise: Noise, given: Fixed | None) -> Fixed:
            mask = others.to(at.u.device)
            return Fixed(at.u, mask) if given is None else Fixed(given.apply(at.u), mask | given.mask)

        def density(at: Draw, request: Request) -> TiltedPrior:
            below = self.below(i, request.fixed)
            return TiltedPrior(backbone, Tilt(self._relevant(i, below), (self.energy,), (i, *below)), at.context)

        key = ("layer", i)
        return MCMC(name=f"layer {i}", sampler=self.drawing.sampler, density=density, key=key, fixed=fixed)

    def _relevant(self, i: int, below: list[int]) -> Callable[[Latents], Tensor]:
        """Return the log ratios in the target of layer i: f_i, and f_j of each layer below with fixed coordinates."""
        if not below:
            return lambda latents: self.energy.of_layer(latents, i)
        return lambda latents: self.tilt(latents)[:, [i, *below]]

    def below(self, i: int, fixed: Fixed | None) -> list[int]:
        """List the layers below layer i with fixed coordinates. Their f_j measure how well layer i fits them."""
        if fixed is None:
            return []
        return [j for j in range(i + 1, len(self.layout)) if bool(fixed.mask[self.layout.place(j)].any())]

    # ------------------------------------------------------------ learning

    def objective(
        self,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """Return Σ_i BCE_i, the loss of posterior draws z_i⁺ against z_i⁻ = z_i⁺ + σ_i(z_above⁺) (ε_i − u_i⁺).

        All layers learn at once and without chains. The layers above each z_i⁻ are posterior draws, so z⁻ as a whole
        is not a draw from a prior.
        """
        positive = posterior.latents
        negative = self._redrawn(positive, noise)
        energy = self.energy.perturbed(noise.derive("energy"))
        on_positive, on_negative = energy(positive).squeeze(2), energy(negative).squeeze(2)
        loss = Loss(bce(on_positive, on_negative).sum(), contrast_terms(on_positive, on_negative))
        return loss.plus("penalty", self.energy.penalty(positive))

    def contrasted(self, backbone: Backbone, latents: Latents, noise: Noise) -> Contrasted:
        """Return z⁺, z⁻ and f_i: one contrast for each layer given the layers above it, as in `objective`."""
        return Contrasted(latents, self._redrawn(latents, noise), self.tilt)

    def _redrawn(self, positive: Latents, noise: Noise) -> Latents:
        """Return z_i⁻ = z_i⁺ + σ_i(z_above⁺) (ε_i − u_i⁺), each layer redrawn below the same posterior draws."""
        fresh = self.layout.split(noise.derive("negative").normal(*positive.u.shape))
        return redrawn(positive, self.layout, {i: part.flatten(1) for i, part in enumerate(fresh)})


@attrs.frozen(eq=False)
class _Selection:
    """Choose layer i among proposals, given the layers above.

    Arguments:
        prior: its ratios are the weights.
        layer: i.
        backbone: defines T.
        at: the draw so far, with the fixed coordinates at their given values.
        fixed: the fixed coordinates, or None.
    """

    prior: NCPPrior
    layer: int
    backbone: Backbone
    at: Draw
    fixed: Fixed | None

    def draw(self, proposals: int, noise: Noise) -> Draw:
        """Return the draw with layer i chosen, and ESS / P as a diagnostic."""
        here, u = self.prior.layout.place(self.layer), self.at.u
        latents = seen_by(self.prior.energy, self.backbone, u, self.at.context)
        found = select(
            lambda offered: self._log_weight(latents, offered), len(u), here.stop - here.start, proposals, noise
        )
        moved = u.clone()
        moved[:, here] = self._placed(found.u.unsqueeze(1)).squeeze(1)
        return self.at.moved(moved, {f"ess_layer_{self.layer}": found.share})

    def _placed(self, offered: Tensor) -> Tensor:
        """Set the fixed coordinates of proposals `(n, C, d)` to their given values."""
        if self.fixed is None:
            return offered
        here = self.prior.layout.place(self.layer)
        return torch.where(self.fixed.mask[here], self.fixed.u[:, None, here], offered)

    def _log_weight(self, latents: Latents, offered: Tensor) -> Tensor:
        """Return log r `(n, C)` of proposals `(n, C, d)`. A few samples at a time, since each is repeated C times."""
        placed, size = self._placed(offered), max(1, _NUMBERS // (offered.shape[1] * _numbers(latents)))
        starts = range(0, len(latents), size)
        return torch.cat([self._few(latents, slice(start, start + size), placed) for start in starts])

    def _few(self, latents: Latents, few: slice, placed: Tensor) -> Tensor:
        """Return log r of the proposals of the samples in the slice `few`."""
        count, layer = placed.shape[1], placed[few].flatten(0, 1)
        rows, below = _repeated(latents, few, count), self.prior.below(self.layer, self.fixed)
        if below:
            moved = rows.u.clone()
            moved[:, self.prior.layout.place(self.layer)] = layer
            point = seen_by(self.prior.energy, self.backbone, moved, rows.context)
            f = self.prior.tilt(point)[:, [self.layer, *below]].sum(1)
        else:
            point = redrawn(rows, self.prior.layout, {self.layer: layer})
            f = self.prior.energy.of_layer(point, self.layer).squeeze(1)
        return f.view(-1, count)


def redrawn(latents: Latents, layout: LatentLayout, fresh: dict[int, Tensor]) -> Latents:
    """Return latents with a new u_i' in some layers, z_i' = z_i + σ_i (u_i' − u_i), given the original layers above.

    A redrawn layer does not depend on other redrawn layers: σ_i and the decoder's features are the original ones.

    Arguments:
        latents: B points.
        layout: the backbone's latent layout.
        fresh: u_i' `(B, d_i)` by layer number.
    """
    old, z = layout.split(latents.u), list(latents.z)
    u = list(old)
    for i, part in fresh.items():
        u[i] = part.view_as(old[i])
        z[i] = latents.z[i] + latents.sigma[i] * (u[i] - old[i])
    return Latents(layout.join(u), tuple(z), latents.sigma, latents.context, shown=latents.shown)


def _numbers(latents: Latents) -> int:
    """Return the number of elements of one row, including decoder features."""
    features: list[Tensor] = [part for parts in latents.shown.values() for part in parts]
    return latents.u.shape[1] * 3 + sum(part[:1].numel() for part in features)


def _repeated(latents: Latents, few: slice, count: int) -> Latents:
    """Repeat each row of the slice `few` `count` times; the copies of a row are consecutive."""

    def rows(part: Tensor) -> Tensor:
        return part[few].repeat_interleave(count, 0)

    sigma = tuple(rows(s.expand_as(z)) for s, z in zip(latents.sigma, latents.z, strict=True))
    context = None if latents.context is None else rows(latents.context)
    shown = {name: tuple(map(rows, parts)) for name, parts in latents.shown.items()}  # features, a tuple
    return Latents(rows(latents.u), tuple(map(rows, latents.z)), sigma, context, shown=shown)
