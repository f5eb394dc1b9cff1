"""The loss of an NVAE: the balanced, annealed −ELBO and a penalty on the norms of its layers (arXiv 2007.03898)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.interfaces import Loss, Progress
from hebm.latents import Posterior
from hebm_plugins.nvae.batch_norm import mean_over_processes

FIRST_ITERATIONS = 40
"""Number of power iterations in the first step, which starts from random vectors."""


def kl_coefficient(step: int, total: int, warmup: float = 0.3, hold: float = 1e-4, floor: float = 1e-4) -> float:
    """Return β = max(min((step − hold · total) / (warmup · total), 1), floor).

    Arguments:
        step: training step, counted from 0.
        total: number of training steps.
        warmup: fraction of the steps over which β rises; with 0, β is always 1.
        hold: fraction of the steps before β starts to rise.
        floor: smallest β.
    """
    length = warmup * total
    return max(min((step - hold * total) / length, 1.0), floor) if length else 1.0


def scale_weights(groups: tuple[int, ...]) -> Tensor:
    """Return α_i = 4^k / n_k for each group i of scale k, divided by the smallest α, float64 `(G,)`.

    Arguments:
        groups: n_k per scale, coarsest (k = 0) first.

    The published code computes them in float32.
    """
    weights = torch.tensor([4.0**k / n for k, n in enumerate(groups) for _ in range(n)], dtype=torch.float64)
    return weights / weights.min()


def balance_coefficients(kl: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Return c_i ∝ (mean |KL_i| + 0.01) / α_i, mean 1 over groups, `(G,)`, detached: large groups get large weights.

    Arguments:
        kl: per group `(B, G)`, top-down; may be negative. The mean is over the rows of all processes.
        groups: per scale, coarsest first.
    """
    sizes = mean_over_processes(kl.detach().abs().mean(0)) + 0.01
    weights = sizes / scale_weights(groups).to(sizes)
    return weights / weights.mean()


def norm_weight(beta: float, final: float, initial: float | None = None) -> float:
    """Return λ = exp((1 − β) log initial + β log final), or always `final` without an initial value."""
    if initial is None or final == 0:
        return final
    return math.exp((1 - beta) * math.log(initial) + beta * math.log(final))


@recipe
class NVAEObjective:
    """E_q[−log p(x|z)] + β Σ_i c_i KL_i + λ (Σ spectral norms + Σ max |γ|), arXiv 2007.03898, section 3.2.

    Example:
        >>> NVAEObjective(kl_warmup=0.0, balance=False).norm_penalty
        0.01
    """

    kl_warmup: float = option(0.3, doc="fraction of the steps over which the KL's weight β rises to 1", low=0)
    kl_hold: float = option(1e-4, doc="fraction of the steps before β starts to rise", low=0, high=1)
    kl_floor: float = option(1e-4, doc="smallest β", low=0, high=1)
    balance: bool = option(True, doc="balance the KL terms of the groups while β < 1")
    norm_penalty: float = option(1e-2, doc="λ, weight of spectral norms and BatchNorm scales; 0 for none", low=0)
    norm_penalty_from: float | None = option(
        None,
        doc="initial value of λ, which moves to `norm_penalty` as β rises to 1; by default λ is constant",
        above=0,
    )
    power_iterations: int = option(4, doc="power iterations per step for the spectral norms", low=1)

    def loss(
        self,
        log_likelihood: Tensor,
        posterior: Posterior,
        groups: tuple[int, ...],
        penalty: Callable[[int], Tensor],
        progress: Progress,
    ) -> Loss:
        """Return the loss in nats per image.

        Arguments:
            log_likelihood: log p(x|z), `(B,)`.
            posterior: the draw of z, with its KL `(B, G)`, top-down.
            groups: per scale, coarsest first.
            penalty: returns the penalty after a number of power iterations; it is called only if λ > 0.
            progress: the training step, which determines β.
        """
        kl, reconstruction = _kl_of(posterior), -log_likelihood.mean()
        total = progress.total if self.kl_warmup else 0  # asked for only where the loss depends on it
        beta = kl_coefficient(progress.step, total, self.kl_warmup, self.kl_hold, self.kl_floor)
        weighted = beta * self._weighed(kl, groups, beta).mean()
        norms = self._norms(penalty, beta, progress.step, reconstruction)
        divergence = kl.sum(1).mean()
        terms = {
            "elbo": -(reconstruction + divergence).detach(),
            "reconstruction": reconstruction.detach(),
            "kl": divergence.detach(),
            "kl_coefficient": torch.full_like(divergence.detach(), beta),
            "norm_penalty": norms.detach(),
        }
        return Loss(reconstruction + weighted + norms, terms, posterior=posterior)

    def _weighed(self, kl: Tensor, groups: tuple[int, ...], beta: float) -> Tensor:
        """Return Σ_i c_i KL_i, `(B,)`, the weighted KL."""
        return (kl * balance_coefficients(kl, groups)).sum(1) if self.balance and beta < 1 else kl.sum(1)

    def _norms(self, penalty: Callable[[int], Tensor], beta: float, step: int, like: Tensor) -> Tensor:
        """Return λ times the penalty, which is not computed for λ = 0."""
        weight = norm_weight(beta, self.norm_penalty, self.norm_penalty_from)
        if weight == 0:
            return torch.zeros_like(like)
        return weight * penalty(self.power_iterations if step else max(FIRST_ITERATIONS, self.power_iterations))


def _kl_of(posterior: Posterior) -> Tensor:
    if posterior.kl is None:
        raise NotImplementedError("an NVAE's posterior must come with its KL per group")
    return posterior.kl
