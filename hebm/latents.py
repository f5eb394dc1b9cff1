"""Latents: one flat standard-normal vector u, its layers, and the z they stand for.

A hierarchy of L layers, **top first**, has

    z_i = μ_i(z_above) + σ_i(z_above) u_i,        u ~ N(0, I),        z = T(u).

u is one tensor `(B, D)`: every layer has the same scale there, so samplers, noise and checkpoints see one
contiguous tensor. `LatentLayout` gives the per-layer views.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import attrs
import torch
from torch import Tensor


@attrs.frozen
class LatentLayout:
    """The shapes of the latent layers, top first, and of the context.

    Arguments:
        shapes: shape of each layer without the batch dimension, top first: `((16,), (32,))` or
            `((20, 4, 4), (20, 8, 8))`.
        context: shape of the variable drawn before the latents (a pseudo-input), or None.
    """

    shapes: tuple[tuple[int, ...], ...]
    context: tuple[int, ...] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of elements of each layer, top first."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def dim(self) -> int:
        """D, the number of elements of u."""
        return sum(self.sizes)

    def __len__(self) -> int:
        """L, the number of layers."""
        return len(self.shapes)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Views of a flat `(B, D)` tensor, one of shape `(B, *shape_i)` per layer, top first."""
        parts = torch.split(flat, list(self.sizes), dim=1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True))

    def hold(self, u: Tensor, layers: Collection[int]) -> Hold:
        """Hold chosen layers (0 is the top) at their values in u `(n, D)`."""
        parts = [torch.full((size,), i in layers, device=u.device) for i, size in enumerate(self.sizes)]
        return Hold(u, torch.cat(parts))

    def zeros(self, like: Tensor) -> Latents:
        """One point, u = 0 and z = 0 with σ = 1, on the device and of the type of `like`."""
        z = tuple(like.new_zeros(1, *shape) for shape in self.shapes)
        context = None if self.context is None else like.new_zeros(1, *self.context)
        return Latents(self.join(z), z, tuple(torch.ones_like(part) for part in z), context)

    def join(self, layers: Sequence[Tensor]) -> Tensor:
        """The flat `(B, D)` tensor of per-layer tensors `(B, *shape_i)`, top first."""
        return torch.cat([layer.flatten(1) for layer in layers], dim=1)


@attrs.frozen(eq=False)
class Hold:
    """Coordinates of u that are given; the others are drawn given them.

    Arguments:
        u: `(n, D)`; what is not held does not count.
        held: which coordinates are, `(D,)`, of bools.
    """

    u: Tensor
    held: Tensor

    def apply(self, u: Tensor) -> Tensor:
        """u `(n, D)` with the held coordinates as given."""
        return torch.where(self.held, self.u, u)

    def free(self, u: Tensor) -> Tensor:
        """The other coordinates of u `(n, D)`, `(n, D − held)`."""
        return u[:, ~self.held]

    def filled(self, free: Tensor) -> Tensor:
        """The whole u `(n, D)` around its free coordinates; differentiable in them."""
        return self.u.masked_scatter(~self.held, free)

    def moved(self, u: Tensor) -> Hold:
        """The same coordinates held at their values in another u."""
        return Hold(u, self.held)


@dataclass(frozen=True, eq=False, slots=True)  # no attrs class: torch.compile cannot trace its constructor
class Latents:
    """A point of latent space, in both coordinates.

    Arguments:
        u: standardised latents, flat `(B, D)`.
        z: latents per layer, `(B, *shape_i)`, top first.
        sigma: σ_i per layer, broadcastable to z_i, so that ∂z_i/∂u_i = diag σ_i.
        context: what was drawn before the latents, `(B, *context)`, or None.
        features: what the backbone needs to go on from here to the image; its own business.
    """

    u: Tensor
    z: tuple[Tensor, ...]
    sigma: tuple[Tensor, ...]
    context: Tensor | None = None
    features: Any = None

    @property
    def flat_z(self) -> Tensor:
        """z as one flat tensor `(B, D)`, top first."""
        return torch.cat([layer.flatten(1) for layer in self.z], dim=1)

    @property
    def log_sigma(self) -> Tensor:
        """log |det ∂z/∂u| = Σ_i Σ_d log σ_{i,d}, of shape `(B,)`."""
        terms = [s.expand_as(z).flatten(1).log().sum(1) for s, z in zip(self.sigma, self.z, strict=True)]
        return torch.stack(terms).sum(0)

    @property
    def base_log_prob(self) -> Tensor:
        """log p_β(z) = log N(u; 0, I) − Σ log σ, the backbone's own prior over z, of shape `(B,)`."""
        gaussian = -0.5 * self.u.square().sum(1) - 0.5 * self.u.shape[1] * math.log(2 * math.pi)
        return gaussian - self.log_sigma

    def detach(self) -> Latents:
        """The same values, outside any graph and without features (they may hold a graph)."""
        context = None if self.context is None else self.context.detach()
        z, sigma = (tuple(part.detach() for part in parts) for parts in (self.z, self.sigma))
        return Latents(self.u.detach(), z, sigma, context)


@attrs.frozen(eq=False)
class Posterior:
    """A draw from q(z|x), or from the generator posterior by MCMC.

    Arguments:
        latents: the draw.
        log_q: log q(z_i | ·) per layer, `(B, L)`, or None when drawn by MCMC.
        kl: KL(q_i ‖ p_i) per layer, analytic where there is a formula, else one-sample, `(B, L)`; or None.
        log_r: log r(c|x) of the context, `(B,)`, or None where there is none.
        mean: of q(z_i|·) per layer given what was drawn before it, `(B, *shape_i)`; None where q has no simple one.
    """

    latents: Latents
    log_q: Tensor | None = None
    kl: Tensor | None = None
    log_r: Tensor | None = None
    mean: tuple[Tensor, ...] | None = None

    def detach(self) -> Posterior:
        """Return the same values outside any graph; the latents lose their features (see `Latents.detach`)."""
        log_q, kl, log_r = (None if part is None else part.detach() for part in (self.log_q, self.kl, self.log_r))
        mean = None if self.mean is None else tuple(part.detach() for part in self.mean)
        return Posterior(self.latents.detach(), log_q, kl, log_r, mean)
