"""The log densities that chains sample, one small class each.

Each is a log density over flat u `(B, D)`, up to a constant; rows are independent. `value_and_grad` uses the analytic
gradient of the Gaussian terms. The gradient of the remainder (`remainder_and_grad`) comes from one call of autograd, or
from the energy itself if it `Differentiates`.

References:
    Learning Latent Space Energy-Based Prior Model, arXiv 2006.08205.
    Learning Latent Space Hierarchical EBM Diffusion Models, arXiv 2405.13910, Eq. 8.
    Learning Joint Latent Space EBM Prior Model for Multi-layer Generator, arXiv 2306.06323.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override

from hebm.backbone import Backbone
from hebm.errors import ConfigError
from hebm.fixed import Fixed
from hebm.gradients import pullback_of, value_and_grad
from hebm.tilts import Tilt


class ValueAndGrad(NamedTuple):
    """log p(u) up to a constant `(B,)`, and ∇_u log p(u) `(B, D)`."""

    value: Tensor
    grad: Tensor


class Factor(NamedTuple):
    """m and s of a Gaussian factor N(u; m, s² I): numbers, or tensors that broadcast with u `(B, D)`."""

    mean: Tensor | float = 0.0
    std: Tensor | float = 1.0


def known_factor(density: LogDensity) -> Factor:
    """Return the Gaussian factor of a density. Raises `ConfigError` if it is not known."""
    factor = density.factor()
    if factor is None:
        raise ConfigError(
            f"the density {type(density).__name__} has no known Gaussian factor N(m, s² I); use a sampler that needs "
            "none, such as ula or mala"
        )
    return factor


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Freeze the parameters of `modules` inside the context, and restore `requires_grad` afterwards."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


class LogDensity(ABC):
    """log p(u) = r(u) + log N(u; m, s² I) + const, by default with m = 0 and s = 1.

    Attributes:
        scale: a number or `(B, 1)` that multiplies the step size h of every sampler that does not need `factor`.
        modules: the modules that a chain freezes.
        variant: distinguishes densities of one class with the same modules. Each variant gets its own compiled step.
    """

    scale: float | Tensor = 1.0
    modules: tuple[nn.Module, ...] = ()
    variant: Hashable = ()

    @abstractmethod
    def remainder(self, u: Tensor) -> Tensor:
        """Return the remainder r(u), `(B,)`: log p(u) without the Gaussian term. It must be differentiable in u."""

    def factor(self) -> Factor | None:
        """Return m and s of the Gaussian term N(m, s² I); None if they are not known.

        Samplers that cannot do without it set `Sampler.needs_factor`. If it is None, other samplers may use another
        proposal, such as a random walk with acceptance by log p(u).
        """
        return Factor() if type(self).gaussian is LogDensity.gaussian else None

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return −|u|²/2 and its gradient −u. For another quadratic term, override both this method and `factor`."""
        return ValueAndGrad(-0.5 * u.square().sum(1), -u)

    def value_and_grad(self, u: Tensor) -> ValueAndGrad:
        """Return log p(u) `(B,)` and its gradient `(B, D)`, both detached; u may be any tensor."""
        remainder, slope = self.remainder_and_grad(u)
        value, quadratic = self.gaussian(u)
        return ValueAndGrad(value + remainder, quadratic + slope)

    def remainder_and_grad(self, u: Tensor) -> ValueAndGrad:
        """Return r(u) `(B,)` and its gradient `(B, D)`, both detached; u may be any tensor."""
        return ValueAndGrad(*value_and_grad(self.remainder, u))


class TiltedPrior(LogDensity):
    """log p(u) = f(T(u; c)) − |u|²/2 (arXiv 2405.13910, Eq. 8).

    Arguments:
        backbone: gives T.
        tilt: f.
        context: c, the same along the chain, `(B, *context)`, or None.
        jacobian: False gives the density that the papers derive. True subtracts Σ log σ_i(u), as published two-stage
            code does: its chains use the density of z as if it were the density of u.
    """

    def __init__(self, backbone: Backbone, tilt: Tilt, context: Tensor | None = None, jacobian: bool = False) -> None:
        self.backbone, self.tilt, self.context, self.jacobian = backbone, tilt, context, jacobian
        self.modules, self.variant = (backbone, *tilt.modules), tilt.variant
        # found once: looking for a protocol takes as long as a small product
        self.gradients, self.transport = None if jacobian else tilt.gradients, pullback_of(backbone)

    def remainder(self, u: Tensor) -> Tensor:
        """Return f(T(u)), minus Σ log σ if `jacobian`."""
        latents = self.backbone.latents(u, self.context)
        f = self.tilt.at(self.backbone, latents).sum(1)
        return f - latents.log_sigma if self.jacobian else f

    @override
    def remainder_and_grad(self, u: Tensor) -> ValueAndGrad:
        if self.gradients is None:
            return super().remainder_and_grad(u)
        with torch.no_grad():
            latents, pullback = self.transport(u, self.context)
            found = self.gradients(latents)
            return ValueAndGrad(found.f.sum(1), found.whole(pullback))


class ConditionalPrior(LogDensity):
    """log p(u_t | u_{t+1}) = f(T(u_t; c), t) / b − |u_t|²/2 − m |α u_t − u_{t+1}|² / (2σ²)  (arXiv 2405.13910, Eq. 13).

    At f = 0 and m = 1 it is N(α u_{t+1}, σ² I), since α² + σ² = 1.

    Arguments:
        backbone: gives T.
        tilt: f at level t.
        above: u_{t+1}, `(B, D)`.
        alpha, sigma: α and σ of the step from t to t + 1, `(B, 1)`.
        recovery: m, `(B, 1)`; 1 in the paper.
        energy_scale: b, `(B, 1)`; 1 in the paper.
        scale: factor of a sampler's step size, `(B, 1)`.
        context: c, the same along the chain, `(B, *context)`, or None.
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
        self.modules, self.variant = (backbone, *tilt.modules), tilt.variant

    def factor(self) -> Factor:
        """Return the factor with 1/s² = 1 + α² m/σ² and mean s² α (m/σ²) u_{t+1}."""
        std = (1 + self.alpha.square() * self.precision).rsqrt()
        return Factor(std.square() * self.alpha * self.precision * self.above, std)

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return the sum of the two quadratic terms, and its gradient −u − m α (α u − u_{t+1}) / σ²."""
        residual = self.alpha * u - self.above
        value = -0.5 * (u.square() + self.precision * residual.square()).sum(1)
        return ValueAndGrad(value, -u - self.alpha * self.precision * residual)

    def remainder(self, u: Tensor) -> Tensor:
        """Return the log tilt divided by its scale, f(T(u)) / b."""
        latents = self.backbone.latents(u, self.context)
        return self.tilt.at(self.backbone, latents).sum(1) / self.energy_scale.squeeze(1)


class Conditioned(LogDensity):
    """The density of the free coordinates of u, given the fixed ones.

    Arguments:
        density: the density of the whole u `(B, D)`.
        fixed: the coordinates that are given.
    """

    def __init__(self, density: LogDensity, fixed: Fixed) -> None:
        self.density, self.fixed = density, fixed
        self.scale, self.modules, self.variant = density.scale, density.modules, density.variant

    def factor(self) -> Factor | None:
        """Return the factor of the whole density, reduced to the free coordinates."""
        whole = self.density.factor()
        return None if whole is None else Factor(self._free(whole.mean), self._free(whole.std))

    def _free(self, part: Tensor | float) -> Tensor | float:
        varies = isinstance(part, Tensor) and part.ndim > 1 and part.shape[1] > 1
        return self.fixed.free(part) if varies and isinstance(part, Tensor) else part

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return the quadratic term of the whole density at free coordinates u `(B, D − fixed)`."""
        value, grad = self.density.gaussian(self.fixed.filled(u))
        return ValueAndGrad(value, self.fixed.free(grad))

    def remainder(self, u: Tensor) -> Tensor:
        """Return the remainder of the whole density."""
        return self.density.remainder(self.fixed.filled(u))

    @override
    def remainder_and_grad(self, u: Tensor) -> ValueAndGrad:
        value, grad = self.density.remainder_and_grad(self.fixed.filled(u))
        return ValueAndGrad(value, self.fixed.free(grad))


class Tempered(LogDensity):
    """log p(u) = λ r(u) − |u|²/2.

    Arguments:
        density: the density r(u) − |u|²/2.
        power: λ.
    """

    def __init__(self, density: LogDensity, power: float) -> None:
        self.density, self.power = density, power
        self.scale, self.modules, self.variant = density.scale, density.modules, density.variant

    def remainder(self, u: Tensor) -> Tensor:
        """Return the remainder scaled by the power, λ r(u)."""
        return self.power * self.density.remainder(u)


class GeneratorPosterior(LogDensity):
    """log p(u|x) = log p(x|T(u; c)) + f(T(u; c)) − |u|²/2.

    Arguments:
        backbone: gives T and p(x|z).
        target: x in the form that the likelihood scores, `(B, C, H, W)`.
        tilt: f, or None for the backbone's own posterior.
        context: c, or None.
    """

    def __init__(
        self, backbone: Backbone, target: Tensor, tilt: Tilt | None = None, context: Tensor | None = None
    ) -> None:
        self.backbone, self.target, self.tilt, self.context = backbone, target, tilt, context
        self.modules = (backbone,) if tilt is None else (backbone, *tilt.modules)
        self.variant = () if tilt is None else tilt.variant

    def remainder(self, u: Tensor) -> Tensor:
        """Return log p(x|T(u)) + f(T(u))."""
        latents = self.backbone.latents(u, self.context)
        log_likelihood = self.backbone.likelihood(latents).log_prob(self.target)
        return log_likelihood if self.tilt is None else log_likelihood + self.tilt.at(self.backbone, latents).sum(1)


class LatentSpace(LogDensity):
    """log p(z) = f(z) + log p_β(z) [+ log p(x|z)] over flat z.

    Use this density to compare with published joint training, whose chains move z itself. The layers have different
    scales, and a small σ_i makes chains unstable unless h < 4 min σ².

    Arguments:
        backbone: gives T⁻¹ and p(x|z).
        tilt: f.
        target: x for the posterior, `(B, C, H, W)`, or None for the prior.
        context: c, or None.
    """

    def __init__(
        self, backbone: Backbone, tilt: Tilt, target: Tensor | None = None, context: Tensor | None = None
    ) -> None:
        self.backbone, self.tilt, self.target, self.context = backbone, tilt, target, context
        self.modules, self.variant = (backbone, *tilt.modules), tilt.variant

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return 0, since the root's density over z is not a fixed Gaussian."""
        return ValueAndGrad(u.new_zeros(u.shape[0]), torch.zeros_like(u))

    def remainder(self, u: Tensor) -> Tensor:
        """Return the whole log density at flat z."""
        latents = self.backbone.invert(self.backbone.layout.split(u), self.context)
        value = latents.root_log_prob + self.tilt.at(self.backbone, latents).sum(1)
        if self.target is None:
            return value
        return value + self.backbone.likelihood(latents).log_prob(self.target)
