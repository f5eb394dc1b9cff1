"""Noise schedules in terms of γ(t) = −log SNR(t), t ∈ [0, 1]: α² = sigmoid(−γ), σ² = sigmoid(γ)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import override


class Step(NamedTuple):
    """Coefficients of q(z_s | z_t, x) = N(a z_t + b x, v²), s < t, with the shape of t.

    Arguments:
        z, x: a and b.
        std: v.
    """

    z: Tensor
    x: Tensor
    std: Tensor


class Schedule(nn.Module, ABC):
    """γ from γ_min at t = 0 to γ_max at t = 1.

    Arguments:
        low, high: γ_min, γ_max.
        learned: whether γ_min is trained.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: float, high: float, learned: bool = False) -> None:
        super().__init__()
        at_zero, at_one = (torch.tensor(end, dtype=torch.float64) for end in (low, high))  # exact in any later cast
        if learned:
            self.low = nn.Parameter(at_zero)
        else:
            self.register_buffer("low", at_zero)
        self.register_buffer("high", at_one)

    @abstractmethod
    def gamma(self, t: Tensor) -> Tensor:
        """Return γ(t), of t's shape."""

    @abstractmethod
    def slope(self, t: Tensor) -> Tensor:
        """Return the derivative γ'(t)."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return α_t, the factor of the data, of t's shape."""
        return (-self.gamma(t)).sigmoid().sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """Return σ_t, the factor of the noise, of t's shape."""
        return self.gamma(t).sigmoid().sqrt()

    def continuous_weight(self, t: Tensor) -> Tensor:
        """Return w(t) = ½ γ'(t), the weight of (ε̂ − ε)² in continuous time."""
        return 0.5 * self.slope(t)

    def discrete_weight(self, t: Tensor, steps: int) -> Tensor:
        """Return w(t) = ½ T expm1(γ_t − γ_s), s = t − 1/T, the weight of (ε̂ − ε)² in a chain of T steps.

        It is larger than ½ γ'(t).
        """
        return 0.5 * steps * (self.gamma(t) - self.gamma(t - 1 / steps)).expm1()

    def backwards(self, t: Tensor, s: Tensor) -> Step:
        """Return the coefficients of q(z_s | z_t, x), s < t."""
        alpha_t, alpha_s = self.alpha(t), self.alpha(s)
        var_t, var_s = self.sigma(t).square(), self.sigma(s).square()
        alpha = alpha_t / alpha_s
        var = var_t - alpha.square() * var_s
        return Step(alpha * var_s / var_t, alpha_s * var / var_t, (var * var_s / var_t).sqrt())


class LinearSchedule(Schedule):
    """γ(t) = γ_min + (γ_max − γ_min) t."""

    @override
    def gamma(self, t: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * t

    @override
    def slope(self, t: Tensor) -> Tensor:
        return (self.high - self.low).to(t.dtype).expand_as(t)


class CosineSchedule(Schedule):
    """γ(t) = 2 log tan θ(t),  θ(t) = θ_min + (θ_max − θ_min) t,  θ_min = atan e^{γ_min/2}, θ_max likewise."""

    def _angle(self, t: Tensor) -> tuple[Tensor, Tensor]:
        first, last = ((end / 2).exp().atan() for end in (self.low, self.high))
        return first + (last - first) * t, last - first

    @override
    def gamma(self, t: Tensor) -> Tensor:
        return 2 * self._angle(t)[0].tan().log()

    @override
    def slope(self, t: Tensor) -> Tensor:
        """Return γ'(t) = 4 (θ_max − θ_min) / sin 2θ(t)."""
        angle, span = self._angle(t)
        return 4 * span / (2 * angle).sin()


SCHEDULES: dict[str, Callable[[float, float, bool], Schedule]] = {"linear": LinearSchedule, "cosine": CosineSchedule}
