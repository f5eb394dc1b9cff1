"""Latents in both coordinates: the flat standard-normal u, and the layers z = T(u).

A hierarchy of L layers, **top first**, has

    z_i = μ_i(z_above) + σ_i(z_above) u_i,        u ~ N(0, I),        z = T(u).

u is one contiguous tensor `(B, D)`, in which all layers have the same scale. Samplers, noise and checkpoints use it.
`LatentLayout` gives views of its layers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.errors import PluginError
from hebm.fixed import Fixed
from hebm.normals import Normal


@attrs.frozen
class LatentLayout:
    """The shapes of the latent layers, top first, and of the context.

    Arguments:
        shapes: the shape of each layer without the batch dimension, top first: `((16,), (32,))` or
            `((20, 4, 4), (20, 8, 8))`.
        context: shape of the variable drawn before the latents, such as a pseudo-input; or None.
        image: shape of the decoded image `(C, H, W)`, for energies that see it; None if the backbone does not state it.
        features: shapes of the L features from which p(z_i | z_above) is computed, top first, for energies that see
            them; () if the backbone does not show them (`ShowsFeatures`).
        last_feature: shape of the feature from which the image is computed, or None.
        sizes: the number of elements of each layer, top first. They are computed once, because every step of a chain
            uses them.
    """

    shapes: tuple[tuple[int, ...], ...]
    context: tuple[int, ...] | None = None
    image: tuple[int, int, int] | None = None
    features: tuple[tuple[int, ...], ...] = ()
    last_feature: tuple[int, ...] | None = None
    sizes: tuple[int, ...] = attrs.field(init=False, eq=False, repr=False)

    @sizes.default
    def _count(self) -> tuple[int, ...]:
        return tuple(map(math.prod, self.shapes))

    @classmethod
    def markov(cls, shapes: tuple[tuple[int, ...], ...], image: tuple[int, int, int]) -> LatentLayout:
        """Return the layout of a Markov hierarchy, where z_{i+1} is the feature of p(z_i | z_{i+1})."""
        return cls(shapes, image=image, features=((1,), *shapes[:-1]), last_feature=shapes[-1])

    @property
    def dim(self) -> int:
        """D, the number of elements of u."""
        return sum(self.sizes)

    def __len__(self) -> int:
        """L, the number of layers."""
        return len(self.shapes)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Return views of the layers in a flat `(B, D)` tensor, of shapes `(B, *shape_i)`, top first."""
        return tuple(map(_shaped, flat.split_with_sizes(self.sizes, dim=1), self.shapes))

    def place(self, layer: int) -> slice:
        """Return the slice of u that holds a layer (0 is the top)."""
        first = sum(self.sizes[:layer])
        return slice(first, first + self.sizes[layer])

    def fix(self, u: Tensor, layers: Collection[int]) -> Fixed:
        """Return `layers` (0 is the top) as fixed coordinates, at their values in u `(n, D)`."""
        parts = [torch.full((size,), i in layers, device=u.device) for i, size in enumerate(self.sizes)]
        return Fixed(u, torch.cat(parts))

    def zeros(self, like: Tensor) -> Latents:
        """Return one point of zeros with σ = 1, on the device and with the type of `like`."""

        def zero(shape: tuple[int, ...]) -> Tensor:
            return like.new_zeros(1, *shape)

        z = tuple(map(zero, self.shapes))
        context = None if self.context is None else zero(self.context)
        shown: dict[str, Any] = {"features": tuple(map(zero, self.features))} if self.features else {}
        if self.image is not None:
            shown["image"] = zero(self.image)
        if self.last_feature is not None:
            shown["last-feature"] = zero(self.last_feature)
        return Latents(self.join(z), z, tuple(torch.ones_like(part) for part in z), context, shown=shown)

    def join(self, layers: Sequence[Tensor]) -> Tensor:
        """Return the layers `(B, *shape_i)`, top first, as one flat tensor `(B, D)`; a view if there is only one."""
        flat = [layer.flatten(1) for layer in layers]
        return torch.cat(flat, dim=1) if len(flat) > 1 else flat[0]


@dataclass(frozen=True, eq=False, slots=True)  # not attrs: torch.compile cannot trace its constructor
class Latents:
    """B points of latent space, in both coordinates.

    Arguments:
        u: standardised latents, flat `(B, D)`.
        z: latents per layer, `(B, *shape_i)`, top first.
        sigma: σ_i per layer, broadcastable to z_i, so that ∂z_i/∂u_i = diag σ_i.
        context: the variable drawn before the latents, `(B, *context)`, or None.
        carried: state that the backbone needs to decode these latents; only the backbone reads it.
        shown: further inputs of energies, by the names in `EnergyFn.sees`; `hebm.tilts.shown` adds them.
    """

    u: Tensor
    z: tuple[Tensor, ...]
    sigma: tuple[Tensor, ...]
    context: Tensor | None = None
    carried: Any = None
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image(self) -> Tensor:
        """E[x|z], `(B, C, H, W)`. Raises `PluginError` if these latents do not show it."""
        image: Tensor = self._shown("image")
        return image

    @property
    def features(self) -> tuple[Tensor, ...]:
        """The features from which p(z_i | z_above) is computed, `(B, *layout.features[i])` for layer i, top first.

        Raises `PluginError` if these latents do not show them.
        """
        features: tuple[Tensor, ...] = self._shown("features")
        return features

    @property
    def last_feature(self) -> Tensor:
        """The feature that gives the image, `(B, *layout.last_feature)`. Raises `PluginError` if it is not shown."""
        feature: Tensor = self._shown("last-feature")
        return feature

    def _shown(self, name: str) -> Any:
        if name not in self.shown:
            raise PluginError(
                f"these latents do not show {name!r}: add it to the energy's `sees`, and evaluate the energy by "
                "Tilt.at(backbone, latents), or on hebm.tilts.seen_by(prior, backbone, u, context)"
            )
        return self.shown[name]

    def __len__(self) -> int:
        """Return B, the number of points."""
        return len(self.u)

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
    def root_log_prob(self) -> Tensor:
        """log p_β(z) = log N(u; 0, I) − Σ log σ, the backbone's own prior over z, of shape `(B,)`."""
        gaussian = -0.5 * self.u.square().sum(1) - 0.5 * self.u.shape[1] * math.log(2 * math.pi)
        return gaussian - self.log_sigma

    @classmethod
    def joined(cls, parts: Sequence[Latents]) -> Latents:
        """Return the points of several batches as one, without `carried` and `shown`."""
        sigma = [tuple(s.expand_as(z) for s, z in zip(part.sigma, part.z, strict=True)) for part in parts]
        u = torch.cat([part.u for part in parts])
        return cls(u, _layers([part.z for part in parts]), _layers(sigma), _joined([part.context for part in parts]))

    def detach(self) -> Latents:
        """Return the values detached from any graph, without `carried`, which may hold a graph."""
        context = None if self.context is None else self.context.detach()
        z, sigma = (tuple(part.detach() for part in parts) for parts in (self.z, self.sigma))
        return Latents(self.u.detach(), z, sigma, context, shown={k: _detached(v) for k, v in self.shown.items()})


def as_leaves(latents: Latents) -> tuple[Latents, list[Tensor]]:
    """Return the latents with u, each z and all of `shown` as new leaves that require gradients, and these leaves."""
    leaves: list[Tensor] = []

    def leaf(part: Tensor) -> Tensor:
        leaves.append(part.detach().requires_grad_())
        return leaves[-1]

    u, z = leaf(latents.u), tuple(map(leaf, latents.z))
    shown = {
        name: leaf(part) if isinstance(part, Tensor) else tuple(map(leaf, part)) for name, part in latents.shown.items()
    }
    return Latents(u, z, latents.sigma, latents.context, shown=shown), leaves


def _shaped(part: Tensor, shape: tuple[int, ...]) -> Tensor:
    return part if len(shape) == 1 else part.reshape(-1, *shape)


def _detached(part: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return part.detach() if isinstance(part, Tensor) else tuple(tensor.detach() for tensor in part)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Return the concatenated tensors; None if one of them is missing."""
    found = [part for part in parts if part is not None]
    return torch.cat(found) if len(found) == len(parts) else None


def _layers(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(layer) for layer in zip(*parts, strict=True))


def _normals(parts: Sequence[tuple[Normal, ...]]) -> tuple[Normal, ...]:
    return tuple(Normal(*map(torch.cat, zip(*layer, strict=True))) for layer in zip(*parts, strict=True))


@attrs.frozen(eq=False, repr=False)
class Posterior:
    """A draw from q(z|x), or from the generator posterior by MCMC.

    Arguments:
        latents: the draw.
        log_q: log q(z_i | ·) of each layer, `(B, L)`; None for MCMC draws.
        kl: KL(q_i ‖ p_i) of each layer, `(B, L)`, analytic if there is a formula, otherwise estimated from this sample;
            or None.
        log_r: log r(c|x) of the context, `(B,)`; None without a context.
        mean: mean of q(z_i|·) of each layer given the layers drawn before it, `(B, *shape_i)`; None if it has no simple
            form.
        q_u: q(u_i | x, z_above) of each layer, `(B, *shape_i)`: the mean and deviation of a Gaussian q in units of
            p(z_i | z_above). None if q is not Gaussian, or if a layer is inferred from the layers below it.
    """

    latents: Latents
    log_q: Tensor | None = None
    kl: Tensor | None = None
    log_r: Tensor | None = None
    mean: tuple[Tensor, ...] | None = None
    q_u: tuple[Normal, ...] | None = None

    def __repr__(self) -> str:
        shapes = ", ".join(str(tuple(z.shape[1:])) for z in self.latents.z)
        known = [name for name in ("log_q", "kl", "log_r", "mean", "q_u") if getattr(self, name) is not None]
        how = ", ".join(known) or "by MCMC"
        return f"<posterior draws of {len(self.latents)} images: layers {shapes}, top first; {how}>"

    def detach(self) -> Posterior:
        """Return the values detached from any graph; the latents lose `carried`, see `Latents.detach`."""
        log_q, kl, log_r = (None if part is None else part.detach() for part in (self.log_q, self.kl, self.log_r))
        mean = None if self.mean is None else tuple(part.detach() for part in self.mean)
        q_u = None if self.q_u is None else tuple(Normal(*(part.detach() for part in q)) for q in self.q_u)
        return Posterior(self.latents.detach(), log_q, kl, log_r, mean, q_u)

    @classmethod
    def joined(cls, parts: Sequence[Posterior]) -> Posterior:
        """Return the draws of several batches as one; the latents lose `carried` and `shown`."""
        log_q, kl, log_r = (_joined([getattr(part, name) for part in parts]) for name in ("log_q", "kl", "log_r"))
        means = [part.mean for part in parts if part.mean is not None]
        mean = _layers(means) if len(means) == len(parts) else None
        normals = [part.q_u for part in parts if part.q_u is not None]
        q_u = _normals(normals) if len(normals) == len(parts) else None
        return cls(Latents.joined([part.latents for part in parts]), log_q, kl, log_r, mean, q_u)
