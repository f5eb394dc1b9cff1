"""The noise levels of the diffusion prior: 1,000 small steps, combined into T + 1 large steps."""

from __future__ import annotations

import itertools

import attrs
import torch
from torch import Tensor

from hebm.errors import ConfigError

STEPS = 1000
FIRST, LAST = 1e-4, 2e-2
MOST = STEPS // 2 + 1


@attrs.frozen(eq=False)
class Schedule:
    """u_{t+1} = α_{t+1} u_t + σ_{t+1} ε;  u_t = ᾱ_t u_0 + σ̄_t ε;  t = 0 … T.

    Arguments:
        alpha, sigma: α_t and σ_t, float64 `(T + 1,)`. α_0 and σ_0 lead from the posterior's u to level 0.
        alpha_cum, sigma_cum: ᾱ_t and σ̄_t, `(T + 1,)`.
    """

    alpha: Tensor
    sigma: Tensor
    alpha_cum: Tensor
    sigma_cum: Tensor

    @property
    def levels(self) -> int:
        """T, the number of levels with a conditional model."""
        return len(self.alpha) - 1

    def clean(self) -> Schedule:
        """Return the same schedule with α_0 = 1: level 0 is u_0 itself, as in the paper."""
        return _schedule(torch.cat([torch.ones_like(self.alpha[:1]), self.alpha[1:]]))


def schedule(levels: int) -> Schedule:
    """Return the schedule with α_t the product of a_j = √(1 − β_j) between break points, β_j linear in 1,000 steps.

    β runs from 1e-4 to 2e-2. The break points are k ⌊1000 / (2 (T − 1))⌋ for k < T, and the end. α_0 = a_0, which
    gives level 0 a noise of 0.01.

    Arguments:
        levels: T, from 2 to 501.

    Raises `ConfigError` for any other T.
    """
    if not 2 <= levels <= MOST:
        raise ConfigError(
            f"prior.levels = {levels}: the schedule needs 2 to {MOST} levels; for one level use the prior 'joint'"
        )
    a = (1 - torch.linspace(FIRST, LAST, STEPS, dtype=torch.float64)).sqrt()
    spacing = STEPS // (2 * (levels - 1))
    breaks = [k * spacing for k in range(levels)] + [STEPS - 1]
    factors = [a[low + 1 : high + 1].prod() for low, high in itertools.pairwise(breaks)]
    return _schedule(torch.stack([a[0], *factors]))


def _schedule(alpha: Tensor) -> Schedule:
    alpha_cum = alpha.cumprod(0)
    return Schedule(alpha, (1 - alpha.square()).sqrt(), alpha_cum, (1 - alpha_cum.square()).sqrt())
