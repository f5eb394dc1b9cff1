"""Hierarchies that one top-down pass computes: T, T⁻¹ and q(z|x) follow from one method per layer.

    h_0 = start,      h_i, p(z_i | z_above), q(z_i | z_above, x) = layer_i(h_{i−1}, z_{i−1}, e(x)),      p(x | h_L, z_L)

A pass draws each z_i from p (generation) or q (inference), or takes it as given (T⁻¹), and hands it to the next layer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from hebm.backbone import Backbone, Batch, InferringBackbone
from hebm.errors import PluginError
from hebm.latents import Latents, Posterior
from hebm.noise import Noise
from hebm.normals import Normal

S = TypeVar("S")
"""The state h that one layer hands to the next."""
E = TypeVar("E")
"""The evidence e(x) that the posteriors of all layers read."""


@dataclass(frozen=True, eq=False, slots=True)  # not attrs: torch.compile cannot trace its constructor
class Layer(Generic[S]):
    """What one layer computes before its z_i is known.

    Arguments:
        prior: p(z_i | z_above).
        state: h_i, which the next layer or the likelihood combines with z_i.
        posterior: q(z_i | z_above, x); None without evidence.
        feature: the feature from which the prior is computed, for energies that see it; None if it is not shown.
        flow: a volume-preserving map from a draw of `posterior` to z_i; None for the identity.
    """

    prior: Normal
    state: S
    posterior: Normal | None = None
    feature: Tensor | None = None
    flow: Callable[[Tensor], Tensor] | None = None


class Carried(NamedTuple):
    """What latents carry, so that decoding goes on from the last layer.

    Arguments:
        state: h of the last layer.
        features: the feature of each layer, top first; () if they were not kept.
    """

    state: Any
    features: tuple[Tensor, ...]


class Descent(NamedTuple):
    """The results of one pass through all layers: z, the priors, top first, and what latents carry."""

    z: tuple[Tensor, ...]
    priors: tuple[Normal, ...]
    carried: Carried


Choose = Callable[[int, Layer[S]], Tensor]
"""Returns z_i `(B, *shape_i)`, whether drawn, inferred or given, for layer number i (0 is the top)."""


class Hierarchy(Backbone, Generic[S]):
    """p(x, z) = p(x|z) Π_i N(z_i; μ_i(z_above), σ_i(z_above)²), computed by one call of `layer` per latent layer.

    A subclass sets `layout`, and writes `start`, `layer` and `likelihood`. With q(z|x) along the same pass it is an
    `InferringHierarchy`. To show its features to energies (`ShowsFeatures`), it sets `LatentLayout.features`, returns a
    `feature` with each layer, and writes `last_feature`.
    """

    @abstractmethod
    def start(self, like: Tensor, context: Tensor | None) -> S:
        """Return the state above the top layer; `like` `(B, …)` sets the number of rows, the device and the type."""

    @abstractmethod
    def layer(self, index: int, state: S, above: Tensor | None, evidence: Any) -> Layer[S]:
        """Compute layer `index` (0 is the top).

        Arguments:
            index: i.
            state: the state of the layer above, or `start`.
            above: z of the layer above, `(B, *shape)`; None at the top.
            evidence: the result of `encode`, if the layer must return its posterior; otherwise None.
        """

    def descend(
        self,
        like: Tensor,
        choose: Choose[S],
        context: Tensor | None = None,
        evidence: Any = None,
        keep: bool = False,
    ) -> Descent:
        """Walk through all layers with z_i from `choose`, and stop at the last z.

        Arguments:
            like: see `start`.
            choose: returns z_i.
            context: the context, for backbones that have one.
            evidence: the result of `encode`, if `choose` reads posteriors.
            keep: keep the features of all layers. With gradients they are always kept, since the graph holds most of
                them anyway.
        """
        keep = keep or torch.is_grad_enabled()
        state, above = self.start(like, context), None
        z: list[Tensor] = []
        priors: list[Normal] = []
        features: list[Tensor] = []
        for i in range(len(self.layout)):
            layer = self.layer(i, state, above, evidence)
            state, above = layer.state, choose(i, layer)
            z.append(above)
            priors.append(layer.prior)
            if keep and layer.feature is not None:
                features.append(layer.feature)
        return Descent(tuple(z), tuple(priors), Carried(state, tuple(features)))

    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """Return z_i = μ_i(z_above) + σ_i(z_above) u_i, layers top-down; u `(B, D)`. The image is not computed."""
        parts = self.layout.split(u)
        return _latents(u, self.descend(u, lambda i, layer: layer.prior.at(parts[i]), context), context)

    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        """Return u_i = (z_i − μ_i(z_above)) / σ_i(z_above)."""
        return self.standardised(self.descend(z[0], lambda i, _: z[i], context), context)

    def standardised(self, descent: Descent, context: Tensor | None = None) -> Latents:
        """Return the latents of a pass, with u_i = (z_i − μ_i) / σ_i."""
        u = [prior.standardised(z) for prior, z in zip(descent.priors, descent.z, strict=True)]
        return _latents(self.layout.join(u), descent, context)

    def state(self, latents: Latents) -> S:
        """Return the last layer's state, for `likelihood`. If the latents do not carry it, the pass runs again."""
        carried: Carried = latents.carried or self.invert(latents.z, latents.context).carried
        state: S = carried.state
        return state

    def decoder_features(self, latents: Latents) -> tuple[Tensor, ...]:
        """Return the feature from which each layer's prior is computed. If it was not kept, the pass runs again."""
        carried: Carried | None = latents.carried
        if carried is not None and len(carried.features) == len(self.layout):
            return carried.features
        return self.descend(latents.u, lambda i, _: latents.z[i], latents.context, keep=True).carried.features


class InferringHierarchy(Hierarchy[S], InferringBackbone, Generic[S, E]):
    """A hierarchy whose posteriors q(z_i | z_above, x) are computed along the same top-down pass.

    Besides the methods of `Hierarchy` it has `encode`, and its `layer` returns a posterior if evidence is given.
    """

    @abstractmethod
    def encode(self, x: Tensor) -> E:
        """Return the evidence e(x) of images `(B, C, H, W)` in [−1, 1], which `layer` receives."""

    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Draw z_i ~ q(z_i | z_above, x), layers top-down, with log q and KL per layer `(B, L)`.

        The KL is analytic, except for layers with a flow: log |det| of a flow is 0, and their KL is the one-sample
        estimate log q(z before the flow) − log p(z after it), which may be negative.
        """
        return self.draw_posterior(batch.x, noise)

    def draw_posterior(self, x: Tensor, noise: Noise, context: Tensor | None = None) -> Posterior:
        """Draw z ~ q(z | x, context), see `infer`."""
        xi = self.layout.split(noise.normal(len(x), self.layout.dim))
        q: list[Normal] = []
        drawn: list[Tensor] = []
        flows: list[bool] = []

        def draw(i: int, layer: Layer[S]) -> Tensor:
            q.append(_posterior_of(layer))
            drawn.append(q[-1].at(xi[i]))
            flows.append(layer.flow is not None)
            return drawn[-1] if layer.flow is None else layer.flow(drawn[-1])

        descent = self.descend(x, draw, context, self.encode(x))
        latents = self.standardised(descent, context)
        return posterior_of(latents, q, descent.priors, [not flow for flow in flows], drawn if any(flows) else None)


class MarkovHierarchy(Hierarchy[Normal]):
    """p(x, z) = p(x|z_1) N(z_L; 0, s² I) Π_{i<L} N(z_i; μ_i(z_{i+1}), σ_i(z_{i+1})²), z_L being the top.

    `LatentLayout.markov` makes its layout. A subclass sets `layout` and `conditionals`, and writes `likelihood`.
    """

    conditionals: nn.ModuleList
    """p(z_i | z_{i+1}) of every layer but the top, top first: modules from z_{i+1} to `Normal`."""
    top_std: float = 1.0
    """s, the standard deviation of every coordinate of the top layer."""

    def start(self, like: Tensor, context: Tensor | None) -> Normal:
        """Return p(z_L), the state of the whole pass, since no layer but the top reads it."""
        return Normal(like.new_zeros(()), like.new_full((), self.top_std))

    def layer(self, index: int, state: Normal, above: Tensor | None, evidence: Any = None) -> Layer[Normal]:
        """Return p(z_i | z_{i+1}), which depends on the layer above alone."""
        return Layer(state if above is None else self.conditionals[index - 1](above), state)

    def decoder_features(self, latents: Latents) -> tuple[Tensor, ...]:
        """Return z_{i+1} for each layer, the only input of p(z_i|z_{i+1}); ones for the top layer."""
        return torch.ones_like(latents.u[:, :1]), *latents.z[:-1]

    def last_feature(self, latents: Latents) -> Tensor:
        """Return z_1, the only input of p(x|z_1)."""
        return latents.z[-1]


def posterior_of(
    latents: Latents,
    q: Sequence[Normal],
    priors: Sequence[Normal],
    analytic: Sequence[bool],
    drawn: Sequence[Tensor] | None = None,
) -> Posterior:
    """Return a posterior draw with log q and KL per layer, `(B, L)`.

    Arguments:
        latents: the draw.
        q: q(z_i | ·) of each layer, top first.
        priors: p(z_i | z_above) at the draw.
        analytic: for each layer, whether its KL is the formula KL(q_i ‖ p_i). This requires that q_i depends on no z
            below, and has no flow. Otherwise it is the one-sample estimate log q(z_i|·) − log p(z_i|z_above).
        drawn: the draws of q before flows; None without flows.
    """
    log_q = [qi.log_prob(at) for qi, at in zip(q, drawn or latents.z, strict=True)]
    kl = [
        qi.kl(prior) if known else log - prior.log_prob(z)
        for qi, prior, known, log, z in zip(q, priors, analytic, log_q, latents.z, strict=True)
    ]
    return Posterior(
        latents,
        torch.stack(log_q, dim=1),
        torch.stack(kl, dim=1),
        mean=tuple(qi.mean for qi in q) if drawn is None else None,
        q_u=tuple(qi.in_units_of(prior) for qi, prior in zip(q, priors, strict=True)) if all(analytic) else None,
    )


def _latents(u: Tensor, descent: Descent, context: Tensor | None) -> Latents:
    return Latents(u, descent.z, tuple(prior.std for prior in descent.priors), context, descent.carried)


def _posterior_of(layer: Layer[S]) -> Normal:
    if layer.posterior is None:
        raise PluginError("a layer was given evidence, but returned no posterior: its method `layer` must return one")
    return layer.posterior
