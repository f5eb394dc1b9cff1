"""The densities that get sampled, one small class each, formula first.

Each is a log density over flat u `(B, D)`, up to a constant, rows independent. `value_and_grad` differentiates the
Gaussian terms by hand and the rest by one call of autograd on u alone.

References:
    Learning Latent Space Energy-Based Prior Model, arXiv 2006.08205.
    Learning Latent Space Hierarchical EBM Diffusion Models, arXiv 2405.13910, Eq. 8.
    Learning Joint Latent Space EBM Prior Model for Multi-layer Generator, arXiv 2306.06323.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hebm.interfaces import Backbone
from hebm.latents import Hold, Latents

Tilt = Callable[[Latents], Tensor]
"""Log tilts per energy, `(B, E)`; their sum over E is f."""


class ValueAndGrad(NamedTuple):
    """log p(u) up to a constant `(B,)`, and ∇_u log p(u) `(B, D)`."""

    value: Tensor
    grad: Tensor


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Inside, no parameter of `modules` requires gradients; afterwards each is as it was."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class LogDensity(ABC):
    """log p(u) = r(u) − |u|²/2 + const, with r by autograd and the Gaussian term by hand.

    Attributes:
        scale: a number or `(B, 1)` that multiplies every sampler's step size h.
        modules: what must not require gradients inside a chain.
    """

    scale: float | Tensor = 1.0
    modules: tuple[nn.Module, ...] = ()

    @abstractmethod
    def remainder(self, u: Tensor) -> Tensor:
        """r(u), all but the Gaussian term, `(B,)`, differentiable in u."""

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """−|u|²/2 and its gradient −u. Override for another quadratic term."""
        return ValueAndGrad(-0.5 * u.square().sum(1), -u)

    def value_and_grad(self, u: Tensor) -> ValueAndGrad:
        """Value log p(u) `(B,)` and its gradient `(B, D)`; u may be any tensor, the results hold no graph."""
        if torch.compiler.is_compiling():
            remainder, grad = self._functional(u)
        else:
            with torch.enable_grad():
                leaf = u.detach().requires_grad_()
                remainder = self.remainder(leaf)
                (grad,) = torch.autograd.grad(remainder, leaf, torch.ones_like(remainder))
        value, quadratic = self.gaussian(u)
        return ValueAndGrad(value + remainder.detach(), quadratic + grad)

    def _functional(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The same by `torch.func`: under `torch.compile`, `autograd.grad` on a new leaf recompiles without end."""

        def total(point: Tensor) -> tuple[Tensor, Tensor]:
            remainder = self.remainder(point)
            return remainder.sum(), remainder

        grad, (_, remainder) = torch.func.grad_and_value(total, has_aux=True)(u)
        return remainder, grad


class TiltedPrior(LogDensity):
    """log p(u) = f(T(u; c)) − |u|²/2 (arXiv 2405.13910, Eq. 8).

    Arguments:
        backbone: gives T.
        tilt: f per energy.
        context: c, held fixed, `(B, *context)`, or None.
        jacobian: subtract Σ log σ_i(u), as published two-stage code does (its chain targets the z-space formula
            evaluated in u). Leave it False for the density that the papers derive.
    """

    def __init__(self, backbone: Backbone, tilt: Tilt, context: Tensor | None = None, jacobian: bool = False) -> None:
        self.backbone, self.tilt, self.context, self.jacobian = backbone, tilt, context, jacobian
        self.modules = (backbone, *_module_of(tilt))

    def remainder(self, u: Tensor) -> Tensor:
        """f(T(u)), less Σ log σ if `jacobian`."""
        latents = self.backbone.latents(u, self.context)
        f = self.tilt(latents).sum(1)
        return f - latents.log_sigma if self.jacobian else f


class ConditionalPrior(LogDensity):
    """log p(u_t | u_{t+1}) = f(T(u_t; c), t) / b − |u_t|²/2 − m |α u_t − u_{t+1}|² / (2σ²)  (arXiv 2405.13910, Eq. 13).

    At f = 0 and m = 1 it is N(α u_{t+1}, σ² I), since α² + σ² = 1.

    Arguments:
        backbone: gives T.
        tilt: f per energy, of level t.
        above: u_{t+1}, `(B, D)`.
        alpha, sigma: of the step from t to t + 1, `(B, 1)`.
        recovery: m, `(B, 1)`; the paper has 1.
        energy_scale: b, `(B, 1)`; the paper has 1.
        scale: of a sampler's step size, `(B, 1)`.
        context: c, held fixed, `(B, *context)`, or None.
    """

    def __init__(
        self,
        backbone: Backbone,
        tilt: Tilt,
        above: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        recovery: Tensor,
        energy_scale: Tensor,
        scale: Tensor,
        context: Tensor | None = None,
    ) -> None:
        self.backbone, self.tilt, self.above, self.context = backbone, tilt, above, context
        self.alpha, self.precision = alpha, recovery / sigma.square()
        self.energy_scale, self.scale = energy_scale, scale
        self.modules = (backbone, *_module_of(tilt))

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """The two quadratic terms, and their gradient −u − m α (α u − u_{t+1}) / σ²."""
        residual = self.alpha * u - self.above
        value = -0.5 * (u.square() + self.precision * residual.square()).sum(1)
        return ValueAndGrad(value, -u - self.alpha * self.precision * residual)

    def remainder(self, u: Tensor) -> Tensor:
        """f(T(u)) / b."""
        return self.tilt(self.backbone.latents(u, self.context)).sum(1) / self.energy_scale.squeeze(1)


class Held(LogDensity):
    """Another log density over the coordinates of u that are not held, the others being given.

    Arguments:
        density: over the whole u `(B, D)`.
        hold: which coordinates are given, and their values.
    """

    def __init__(self, density: LogDensity, hold: Hold) -> None:
        self.density, self.hold = density, hold
        self.scale, self.modules = density.scale, density.modules

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """The whole density's quadratic term at free coordinates u `(B, D − held)`."""
        value, grad = self.density.gaussian(self.hold.filled(u))
        return ValueAndGrad(value, self.hold.free(grad))

    def remainder(self, u: Tensor) -> Tensor:
        """The rest of it."""
        return self.density.remainder(self.hold.filled(u))


class GeneratorPosterior(LogDensity):
    """log p(u|x) = log p(x|T(u; c)) + f(T(u; c)) − |u|²/2.

    Arguments:
        backbone: gives T and p(x|z).
        target: x as the likelihood scores it, `(B, C, H, W)`.
        tilt: f per energy, or None for the backbone's own posterior.
        context: c, or None.
    """

    def __init__(
        self, backbone: Backbone, target: Tensor, tilt: Tilt | None = None, context: Tensor | None = None
    ) -> None:
        self.backbone, self.target, self.tilt, self.context = backbone, target, tilt, context
        self.modules = (backbone, *_module_of(tilt))

    def remainder(self, u: Tensor) -> Tensor:
        """The sum log p(x|T(u)) + f(T(u))."""
        latents = self.backbone.latents(u, self.context)
        log_likelihood = self.backbone.likelihood(latents).log_prob(self.target)
        return log_likelihood if self.tilt is None else log_likelihood + self.tilt(latents).sum(1)


class LatentSpace(LogDensity):
    """log p(z) = f(z) + log p_β(z) [+ log p(x|z)] over flat z: published joint-training chains move z itself.

    Use it for comparison with them; its layers have different scales, and a small σ_i makes its chains unstable
    (h < 4 min σ²).

    Arguments:
        backbone: gives T⁻¹ and p(x|z).
        tilt: f per energy.
        target: x for the posterior, `(B, C, H, W)`, or None for the prior.
        context: c, or None.
    """

    def __init__(
        self, backbone: Backbone, tilt: Tilt, target: Tensor | None = None, context: Tensor | None = None
    ) -> None:
        self.backbone, self.tilt, self.target, self.context = backbone, tilt, target, context
        self.modules = (backbone, *_module_of(tilt))

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Nothing: in z the base density is not a fixed Gaussian."""
        return ValueAndGrad(u.new_zeros(u.shape[0]), torch.zeros_like(u))

    def remainder(self, u: Tensor) -> Tensor:
        """The whole log density at flat z."""
        latents = self.backbone.invert(self.backbone.layout.split(u), self.context)
        value = latents.base_log_prob + self.tilt(latents).sum(1)
        if self.target is None:
            return value
        return value + self.backbone.likelihood(latents).log_prob(self.target)


def _module_of(tilt: Tilt | None) -> tuple[nn.Module, ...]:
    """The module that owns a tilt: itself, or the one whose bound method it is, arguments given or not."""
    owner = getattr(getattr(tilt, "func", tilt), "__self__", tilt)
    return (owner,) if isinstance(owner, nn.Module) else ()
