"""Gradients by autograd, or by the formulas of components.

The gradient of a log tilt is ∇_u f(T(u)) = (∂z/∂u)ᵀ ∇_z f. An energy that `Differentiates` computes ∇_z f, and a
backbone that `PullsBack` computes the product with (∂z/∂u)ᵀ, both without a graph, which saves time where nets are
small. For other backbones autograd computes the product. For other energies it differentiates f and T together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from hebm.backbone import Backbone
from hebm.latents import Latents

PullBack = Callable[[Sequence[Tensor]], Tensor]
"""Maps g_i `(B, *shape_i)`, top first, to Σ_i (∂z_i/∂u)ᵀ g_i `(B, D)`."""


class Gradients(NamedTuple):
    """The log tilts of B points, and the gradient of their sum over energies and logits.

    Arguments:
        f: log tilts, with the shape that `forward` returns, `(B, E, K)`.
        z: the gradient in z_i at fixed u, `(B, *shape_i)` for each layer, top first; None if f does not depend on z.
        u: the gradient in u at fixed z, `(B, D)`; None if f does not depend on u. One of the two is a tensor.
    """

    f: Tensor
    z: tuple[Tensor, ...] | None = None
    u: Tensor | None = None

    def whole(self, pullback: PullBack) -> Tensor:
        """Return the gradient of f(T(u)) in u, `(B, D)`."""
        parts = [] if self.z is None else [pullback(self.z)]
        return reduce(torch.add, parts if self.u is None else [*parts, self.u])


@runtime_checkable
class Differentiates(Protocol):
    """An energy that computes its own gradient. It must depend on u and z alone."""

    def value_and_grad(self, latents: Latents, t: Tensor | None = None) -> Gradients:
        """Return `forward(latents, t)` and its gradients, equal to those of autograd up to rounding."""


@runtime_checkable
class PullsBack(Protocol):
    """A backbone that computes the vector-Jacobian product of T by its own formula."""

    def latents_and_pullback(self, u: Tensor, context: Tensor | None = None) -> tuple[Latents, PullBack]:
        """Return T(u; c) and its vector-Jacobian product, equal to that of autograd up to rounding."""


def value_and_grad(function: Callable[[Tensor], Tensor], u: Tensor) -> tuple[Tensor, Tensor]:
    """Return function(u) `(B,)` and the gradient of its sum in u `(B, D)` by autograd, both detached."""
    if torch.compiler.is_compiling():
        return _functional_gradient(function, u)
    with torch.enable_grad():
        leaf = u.detach().requires_grad_()
        value = function(leaf)
        (grad,) = torch.autograd.grad(value, leaf, torch.ones_like(value))
    return value.detach(), grad


# under torch.compile, autograd.grad on a new leaf recompiles every time, so torch.func takes its place


def _functional_gradient(function: Callable[[Tensor], Tensor], u: Tensor) -> tuple[Tensor, Tensor]:
    def total(point: Tensor) -> tuple[Tensor, Tensor]:
        value = function(point)
        return value.sum(), value

    grad, (_, value) = torch.func.grad_and_value(total, has_aux=True)(u)
    return value.detach(), grad


def own_gradients(energy: nn.Module) -> Callable[[Latents], Gradients] | None:
    """Return the gradients of a tilt that is one energy with one logit, f `(B, E)`; None if autograd computes them."""
    if not isinstance(energy, Differentiates):
        return None

    def gradients(latents: Latents) -> Gradients:
        f, z, u = energy.value_and_grad(latents)
        return Gradients(f.squeeze(2), z, u)

    return gradients


def pullback_of(backbone: Backbone) -> Callable[[Tensor, Tensor | None], tuple[Latents, PullBack]]:
    """Return the function that maps u and c to T(u; c) and its vector-Jacobian product."""
    if isinstance(backbone, PullsBack):
        return backbone.latents_and_pullback

    def by_autograd(u: Tensor, context: Tensor | None) -> tuple[Latents, PullBack]:
        if torch.compiler.is_compiling():
            return _functional_pullback(backbone, u, context)
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            latents = backbone.latents(leaf, context)
        return latents, lambda grads: torch.autograd.grad(latents.z, leaf, grads)[0]

    return by_autograd


def _functional_pullback(backbone: Backbone, u: Tensor, context: Tensor | None) -> tuple[Latents, PullBack]:
    def transport(point: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        latents = backbone.latents(point, context)
        return latents.z, latents.sigma

    found: tuple[Any, ...] = torch.func.vjp(transport, u, has_aux=True)
    z, pullback, sigma = found
    return Latents(u, z, sigma, context), lambda grads: pullback(tuple(grads))[0]
