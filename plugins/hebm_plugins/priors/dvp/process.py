"""A variational diffusion model of an image c: bounds and draws (VDM, arXiv 2107.00630; DVP-VAE, arXiv 2412.01373).

    z_t = α_t c + σ_t ε,   −log p(c) ≤ L0 + Lt + L1
    L0 = −log N(c; z_0 / α_0, e^{γ_min})                   reconstruction
    Lt = E_t[w(t) (ε̂(z_t, t) − ε)²]                        t uniform, w = ½ γ'(t) in continuous time
    L1 = ½ (α_1² c² + σ_1² − log σ_1² − 1)                 KL(q(z_1|c) ‖ N(0, I))

per element of c. A chain of T steps is a different model: its bound has w = ½ T expm1(γ_t − γ_s) at t = k/T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hebm_plugins.dvp.log_normal import log_normal
from hebm_plugins.precision import full_precision
from hebm_plugins.priors.dvp.schedule import Schedule, Step

Net = Callable[..., Tensor]
"""Maps (z_t `(B, C, S, S)`, t `(B,)`, keep) to ε̂ or v̂, with the shape of z_t."""
STABLE_MARGIN = 1e-5


class Terms(NamedTuple):
    """The parts of the bound, `(B, C, S, S)` each.

    Arguments:
        first, middle, last: L0, Lt, L1.
    """

    first: Tensor
    middle: Tensor
    last: Tensor

    @property
    def log_prob(self) -> Tensor:
        """Return −(L0 + Lt + L1), `(B,)`."""
        return -(self.first + self.middle + self.last).flatten(1).sum(1)


class Diffusion(nn.Module):
    """The forward and reverse processes, with the net that predicts the noise.

    Arguments:
        net: predicts ε̂ or v̂.
        schedule: γ(t).
        steps: T, for draws and for the chain's bound.
        velocity: whether the net predicts v̂: ε̂ = σ z + α v̂, x̂ = α z − σ v̂.
        discrete: train the chain of T steps, at t = k/T, instead of continuous time.
    """

    def __init__(
        self, net: nn.Module, schedule: Schedule, steps: int, velocity: bool = False, discrete: bool = False
    ) -> None:
        super().__init__()
        self.net, self.schedule, self.steps = net, schedule, steps
        self.velocity, self.discrete = velocity, discrete

    # ------------------------------------------------------------ the forward process

    def diffused(self, c: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Return z_t = α_t c + σ_t ε at times t `(B,)`."""
        return _column(self.schedule.alpha(t)) * c + _column(self.schedule.sigma(t)) * eps

    def predicted(self, z: Tensor, t: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the predicted noise ε̂, of z's shape."""
        raw = full_precision(self.net(z, t) if keep is None else self.net(z, t, keep))
        if not self.velocity:
            return raw
        return _column(self.schedule.sigma(t)) * z + _column(self.schedule.alpha(t)) * raw

    def denoised(self, z: Tensor, t: Tensor) -> Tensor:
        """Return the predicted data x̂ = (z − σ ε̂) / α."""
        return (z - _column(self.schedule.sigma(t)) * self.predicted(z, t)) / _column(self.schedule.alpha(t))

    # ------------------------------------------------------------ bounds

    def terms(self, c: Tensor, eps_0: Tensor, t: Tensor, eps: Tensor, keep: Tensor | None = None) -> Terms:
        """Return the terms of the training bound at one time per row.

        Arguments:
            c: `(B, C, S, S)`.
            eps_0: the noise in z_0, with the shape of c.
            t: times `(B,)` in [0, 1]; in discrete time they are rounded up to the next k/T.
            eps: the noise in z_t, with the shape of c.
            keep: uniform numbers for the net's dropout, see `UNet`.
        """
        t = self.snapped(t)
        error = self.predicted(self.diffused(c, t, eps), t, keep) - eps
        return Terms(self._first(c, eps_0), _column(self.weight(t)) * error.square(), self._last(c))

    def summed(self, c: Tensor, eps_0: Tensor, eps: Sequence[Tensor], weight: Callable[[Tensor], Tensor]) -> Terms:
        """Return the terms with Lt = 1/T Σ_k w(k/T) (ε̂_k − ε_k)², k = 1 … T, for T tensors ε_k with the shape of c.

        With the chain's weight, minus their sum is a bound on the chain's log p(c). With ½ γ', as in the published
        evaluation, it is not a bound: the error decreases with t, so a sum over right end points is too small.
        """
        middle = torch.zeros_like(c)
        for k, eps_k in enumerate(eps, start=1):
            t = self._time(k, c)
            error = self.predicted(self.diffused(c, t, eps_k), t) - eps_k
            middle = middle + _column(weight(t)) * error.square() / self.steps
        return Terms(self._first(c, eps_0), middle, self._last(c))

    def weight(self, t: Tensor) -> Tensor:
        """Return the training weight w(t): the chain's weight in discrete time, otherwise ½ γ'(t)."""
        return self.chain_weight(t) if self.discrete else self.schedule.continuous_weight(t)

    def chain_weight(self, t: Tensor) -> Tensor:
        """Return the chain's weight w(t) = ½ T expm1(γ_t − γ_s), s = t − 1/T."""
        return self.schedule.discrete_weight(t, self.steps)

    def snapped(self, t: Tensor) -> Tensor:
        """Return ⌈t T⌉ / T in discrete time, otherwise t."""
        return (t * self.steps).ceil().clamp(min=1) / self.steps if self.discrete else t

    def _first(self, c: Tensor, eps_0: Tensor) -> Tensor:
        start = self._time(0, c)
        z = self.diffused(c, start, eps_0)
        return -log_normal(c, z / _column(self.schedule.alpha(start)), _column(self.schedule.gamma(start)))

    def _last(self, c: Tensor) -> Tensor:
        end = self._time(self.steps, c)
        var = _column(self.schedule.sigma(end)).square()
        return 0.5 * (_column(self.schedule.alpha(end)).square() * c.square() + var - var.log() - 1)

    def _time(self, k: int, like: Tensor) -> Tensor:
        return like.new_full((len(like),), k / self.steps)

    # ------------------------------------------------------------ the chain

    def _step(self, k: int, like: Tensor) -> Step:
        found = self.schedule.backwards(self._time(k, like), self._time(k - 1, like))
        return Step(*map(_column, found))

    def drawn(self, z: Tensor, noise: Callable[[int], Tensor], temperature: float = 1.0) -> Tensor:
        """Draw z_0 by ancestral sampling: x̂ = clip((z − σ ε̂)/α, −1, 1), z ← a z + b x̂ + τ v ξ_k, k = T … 1.

        Arguments:
            z: z_1 ~ N(0, I), `(B, C, S, S)`.
            noise: returns ξ_k for a step k, with the shape of z. The last step, k = 1, adds noise too.
            temperature: τ.
        """
        for k in range(self.steps, 0, -1):
            step = self._step(k, z)
            z = step.z * z + step.x * self.denoised(z, self._time(k, z)).clamp(-1, 1)
            z = z + temperature * step.std * noise(k)
        return z

    def trajectory_weight(self, c: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        """Return log p(c, z_0 … z_1) − log q(z_0 … z_1 | c) of one trajectory drawn from q, `(B,)`.

        Its mean is the bound of the chain of T steps; the mean of its exponential is the chain's p(c), without clipping
        x̂. ξ_{T+1} is the noise of z_1 given c, and ξ_k the noise of the step from k to k − 1.
        """
        end = self._time(self.steps, c)
        eps = noise(self.steps + 1)
        z = self.diffused(c, end, eps)
        log_w = log_normal(z, torch.zeros_like(z), 0.0) - log_normal(eps, torch.zeros_like(z), 0.0)
        log_w = log_w + _column(self.schedule.sigma(end)).log()
        for k in range(self.steps, 0, -1):
            step = self._step(k, c)
            xi = noise(k)
            shift = step.x * (c - self.denoised(z, self._time(k, c))) / step.std
            z = step.z * z + step.x * c + step.std * xi
            log_w = log_w - shift * xi - 0.5 * shift.square()
        start = self._time(0, c)
        found = log_normal(c, z / _column(self.schedule.alpha(start)), _column(self.schedule.gamma(start)))
        return (log_w + found).flatten(1).sum(1)


def stratified(offset: Tensor, rows: int, first: int = 0, of: int | None = None) -> Tensor:
    """Return stratified times t_i = frac(u + i/B), within [1e-5, 1 − 1e-5], `(rows,)`.

    The rows are i = first, first + 1 …. The loss has a lower variance than with independent times.

    Arguments:
        offset: u `(1,)`, one for all rows of a batch.
        rows: the number of rows of this call.
        first: the number i of the first row.
        of: B, the size of the whole batch; None if it is `rows`.
    """
    i = torch.arange(first, first + rows, device=offset.device, dtype=offset.dtype)
    return (offset + i / (of or rows)).frac().clamp(STABLE_MARGIN, 1 - STABLE_MARGIN)


def _column(values: Tensor) -> Tensor:
    """Reshape `(B,)` to `(B, 1, 1, 1)`."""
    return values.view(-1, 1, 1, 1)
