"""Sequential Monte Carlo over the stages of a product of ratios, with particles of its own for every sample.

    w_j ← w_j r_s(u_j);   resampled where ESS < threshold · P;   u_j moved by a chain on p_s,   s = 1 … M

A stage's ratio corrects what the moves of the stages before left, exactly as far as it was learned on such draws; a
longer chain on the product does not.

References:
    Sequential Monte Carlo samplers: Del Moral, Doucet, Jasra 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hebm.noise import Noise
from hebm_plugins.priors.importance import choose, effective_share, resample


class Particles(NamedTuple):
    """P particles of each of n samples.

    Arguments:
        u: `(n, P, D)`.
        log_weights: `(n, P)`.
        share: the lowest ESS / P that weights had before they were resampled, `(n,)`.
    """

    u: Tensor
    log_weights: Tensor
    share: Tensor

    @property
    def spoiled(self) -> Tensor:
        """Samples with a particle whose weight is no number, `(n,)`: nothing can be chosen among theirs."""
        return self.log_weights.isnan().any(1)


def smc(
    u: Tensor,
    log_ratios: Sequence[Callable[[Tensor], Tensor]],
    move: Callable[[int, Tensor], Tensor],
    noise: Noise,
    threshold: float,
) -> Particles:
    """Particles of the last stage.

    Arguments:
        u: draws of the base, `(n, P, D)`.
        log_ratios: log r_s of each stage, `(n · P, D)` → `(n · P,)`.
        move: `move(s, u)` gives u `(n · P, D)` after a chain on p_s, s from 1.
        noise: of resampling, a row per sample.
        threshold: ESS / P below which a sample's particles are resampled; 1 always does.
    """
    samples, count, _ = u.shape
    log_weights = torch.zeros_like(u[..., 0])
    lowest = torch.ones_like(u[:, 0, 0])
    for s, log_ratio in enumerate(log_ratios, 1):
        log_weights = log_weights + log_ratio(u.flatten(0, 1)).view(samples, count)
        worth = log_weights.logsumexp(1, keepdim=True).isfinite()
        log_weights = torch.where(worth, log_weights, torch.nan)  # nothing can be chosen by weights that are all 0
        share = effective_share(log_weights)
        lowest = torch.minimum(lowest, share)
        poor = ~(share >= threshold) if threshold < 1 else torch.ones_like(share, dtype=torch.bool)
        u, log_weights = _resampled(u, log_weights, poor, noise.derive("resample", s))
        u = move(s, u.flatten(0, 1)).view_as(u)
    return Particles(u, log_weights, lowest)


def _resampled(u: Tensor, log_weights: Tensor, poor: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
    """Equally weighted copies for the samples that are `poor`; NaN weights stay, and their particles where they are."""
    index = resample(log_weights, noise.uniform(len(u)))
    own = torch.arange(u.shape[1], device=u.device)
    index = torch.where(poor.unsqueeze(1), index, own)
    equal = torch.where(poor.unsqueeze(1) & ~log_weights.isnan(), 0.0, log_weights)
    return u.gather(1, index.unsqueeze(2).expand_as(u)), equal


def chosen(particles: Particles, noise: Noise) -> Tensor:
    """One particle of each sample by its weight, `(n, D)`; NaN where it is spoiled."""
    index = choose(particles.log_weights, noise.uniform(len(particles.u)))
    u = particles.u[torch.arange(len(index), device=index.device), index]
    return torch.where(particles.spoiled.unsqueeze(1), torch.nan, u)
