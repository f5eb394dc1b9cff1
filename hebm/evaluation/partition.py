"""Estimate log Z of a learned prior by sequential Monte Carlo (SMC) from the root.

    p(u) = exp r(u) N(u; 0, I) / Z,    Z = E_{u ~ N(0, I)} exp r(u),    r(u) = f(T(u))

P particles start at draws of N(0, I) and pass through powers 0 = λ_0 < … < λ_K = 1 of the tilt. At each power they are
weighted, resampled, and moved by a sampler that leaves exp(λ_k r) N(0, I) invariant:

    log Ẑ = Σ_k log 1/P Σ_j exp((λ_k − λ_{k−1}) r(u_j))

**Direction of the bias.** E[Ẑ] = Z, so E[log Ẑ] ≤ log Z (Jensen): the estimate is too low on average, by about half the
variance of log Ẑ. A bound that subtracts it, ELBO + E_q[r] − log Ẑ, is therefore too high on average: optimistic. For a
conservative number subtract log Ẑ plus two standard errors. A mode that no particle finds also makes log Ẑ too low. The
standard error does not show this; more particles or more steps may.

E[Ẑ] = Z holds for fixed powers and step sizes and for samplers that accept or reject their steps. Unadjusted samplers,
with which many priors draw, are refused. A pilot run finds powers and step sizes: each power leaves ESS / P = `share`,
and the step size follows the sampler's `target_acceptance`. The pilot run has separate noise and is not part of the
estimate.

A prior that is `Normalised` knows its log Z. Nothing is estimated then, and the bound that subtracts it is a bound.

**Cost**: (repeats + 1) · P · K · (steps + 1) evaluations of r, nearly all with a gradient.

References:
    Sequential Monte Carlo samplers: Del Moral, Doucet, Jasra 2006.
    Annealed importance sampling: Neal 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, stdev, variance
from typing import Any, NamedTuple

import attrs
import torch
from torch import Tensor

from hebm import defaults
from hebm.config.recipes import option, recipe
from hebm.densities import LogDensity, Tempered
from hebm.errors import ConfigError, NonFiniteError
from hebm.interfaces import Normalised
from hebm.latents import Latents
from hebm.noise import Noise
from hebm.particles import Particles, effective_share
from hebm.samplers import Adapts, Sampler
from hebm.sampling import Trace, run
from hebm.trained import TrainedModel, evaluating

SMALLEST = 1e-4
"""Smallest difference of two consecutive powers."""
GAIN = 2.0
"""From one power to the next, log h grows by GAIN · (acceptance − target)."""


@recipe
class Annealing:
    """Settings of the log Z estimate, which costs (repeats + 1) · particles · powers · (steps + 1) evaluations of f."""

    particles: int = option(256, low=2, doc="P, particles of each run")
    repeats: int = option(5, low=2, doc="independent runs; their mean and its standard error are reported")
    share: float = option(
        0.7,
        above=0,
        high=0.99,
        doc="ESS / particles at each power λ of the tilt in the pilot run; a higher share makes more powers",
    )
    sampler: Sampler = option(
        factory=defaults.ANNEALED_SAMPLER,
        doc="moves the particles, `steps` at each power; it must accept or reject its steps",
    )


@attrs.frozen
class LogZ:
    """Log Z in nats: estimates, which are too low on average (see `hebm.evaluation.partition`), or the known value.

    Arguments:
        estimates: log Ẑ of each run, or the known value alone.
        share: the lowest ESS / P of all runs and powers; NaN for a known value.
        acceptance: the lowest mean acceptance at a power; NaN if nothing was moved.
        powers: λ_1 to λ_K = 1, which all runs share; () for a known value.
    """

    estimates: tuple[float, ...]
    share: float = math.nan
    acceptance: float = math.nan
    powers: tuple[float, ...] = ()

    @property
    def known(self) -> bool:
        """True if log Z is not an estimate."""
        return not self.powers

    @property
    def value(self) -> float:
        """The mean of the estimates."""
        return fmean(self.estimates)

    @property
    def error(self) -> float:
        """The standard error of the mean; 0 for a known value."""
        return 0.0 if self.known else stdev(self.estimates) / math.sqrt(len(self.estimates))

    @property
    def bias(self) -> float:
        """The approximate bias E[log Ẑ] − log Z ≈ −Var[log Ẑ] / 2, which is negative; 0 for a known value."""
        return 0.0 if self.known else -variance(self.estimates) / 2

    def __str__(self) -> str:
        if self.known:
            return f"log Z = {self.value:.4g}, exactly"
        return f"log Z = {self.value:.4g} ± {self.error:.2g}"


# ---------------------------------------------------------------- of a model


def unmeasurable(model: TrainedModel) -> str:
    """Return why log Z of a model's prior cannot be estimated; "" if it can."""
    name = type(model.prior).__name__
    if model.prior.root is None:
        return f"{name} is a root: it has no learned tilt"
    if model.generator.layout.context is not None and not isinstance(model.prior, Normalised):
        return "the backbone has a context c, so the learned prior has another Z(c) for every image"
    density = model.prior.density(model.generator)
    if density is None:
        return f"{name} has no density of u: it draws by a chain of conditionals, each with another Z"
    if type(density).gaussian is not LogDensity.gaussian:
        return f"the density of {name} is not a tilt of N(0, I)"
    return ""


def tilted_density(model: TrainedModel) -> LogDensity:
    """Return r(u) − |u|²/2 of a model's prior. Raises `ConfigError` if log Z cannot be estimated (`unmeasurable`)."""
    reason, density = unmeasurable(model), model.prior.density(model.generator)
    if reason or density is None:
        raise ConfigError(f"log Z: {reason}")
    return density


def learned_tilt(model: TrainedModel) -> Callable[[Latents], Tensor]:
    """Return r(u; c) of a model's prior, a function of B latents with values `(B,)`.

    Raises `ConfigError` if log Z cannot be estimated (`unmeasurable`).
    """
    tilted_density(model)

    def tilt(latents: Latents) -> Tensor:
        density = model.prior.density(model.generator, latents.context)
        if density is None:
            raise ConfigError(f"log Z: {type(model.prior).__name__} has no density of u in a context")
        return density.remainder(latents.u)

    return tilt


def log_z_of(model: TrainedModel, annealing: Annealing) -> LogZ:
    """Estimate log Z of a model's prior, or return the known value of a prior that is `Normalised`.

    The result depends only on the weights and these settings.

    Raises `ConfigError` if log Z cannot be estimated, and `NonFiniteError` for a tilt that is NaN or infinite.
    """
    density = tilted_density(model)
    if isinstance(model.prior, Normalised):
        return LogZ((float(model.prior.log_z),))
    noise = Noise(0, "log-z", device=model.device, dtype=model.dtype)
    with evaluating(model.backbone, model.prior):
        return log_z(density, model.generator.layout.dim, noise, annealing, model.rows)


# ---------------------------------------------------------------- of a density


class Rung(NamedTuple):
    """A power λ and the sampler that moves particles at it."""

    power: float
    sampler: Sampler


class Climbed(NamedTuple):
    """Result of one power: particles `(P, D)`, log 1/P Σ w, ESS / P, mean acceptance (NaN without a move)."""

    u: Tensor
    log_mean: float
    share: float
    acceptance: float


def log_z(density: LogDensity, dim: int, noise: Noise, annealing: Annealing, rows: int = 512) -> LogZ:
    """Estimate log Z of exp r(u) N(u; 0, I).

    Arguments:
        density: the log density r(u) − |u|²/2.
        dim: D, the dimension of u.
        noise: the noise of all runs.
        annealing: particles, repeats, powers and sampler.
        rows: particles per batch, a multiple of the noise block.

    Raises `ConfigError` for a sampler that accepts every step, and `NonFiniteError` if r is NaN or +∞ at a particle, or
    −∞ at all particles.
    """
    smc = _SMC(density, dim, annealing, rows)
    rungs = smc.pilot(noise.derive("pilot"))
    runs = [list(smc.climb(rungs, noise.derive("repeat", k))) for k in range(annealing.repeats)]
    moved = [at.acceptance for climbed in runs for at in climbed if not math.isnan(at.acceptance)]
    return LogZ(
        estimates=tuple(math.fsum(at.log_mean for at in climbed) for climbed in runs),
        share=min(at.share for climbed in runs for at in climbed),
        acceptance=min(moved, default=math.nan),
        powers=tuple(rung.power for rung in rungs),
    )


@attrs.frozen(eq=False)
class _SMC:
    """Runs SMC on one density. See `log_z` for the arguments."""

    density: LogDensity
    dim: int
    annealing: Annealing
    rows: int

    def pilot(self, noise: Noise) -> list[Rung]:
        """Find powers and step sizes; each rung has the sampler with its step size."""
        rungs: list[Rung] = []
        u, sampler, before = self._start(noise), self.annealing.sampler.plain, 0.0
        while before < 1:
            r = self._remainder(u)
            rung = Rung(_next_power(r, before, self.annealing.share), sampler)
            at = self._step(u, r, before, rung, noise.derive(len(rungs)))
            rungs.append(rung)
            u, sampler, before = at.u, _followed(sampler, at.acceptance), rung.power
        return rungs

    def climb(self, rungs: Sequence[Rung], noise: Noise) -> Iterator[Climbed]:
        """Yield each power of a run."""
        u, before = self._start(noise), 0.0
        for k, rung in enumerate(rungs):
            at = self._step(u, self._remainder(u), before, rung, noise.derive(k))
            yield at
            u, before = at.u, rung.power

    def _start(self, noise: Noise) -> Tensor:
        return noise.derive("root").normal(self.annealing.particles, self.dim)

    def _step(self, u: Tensor, r: Tensor, before: float, rung: Rung, noise: Noise) -> Climbed:
        """Weight, resample and move particles u `(P, D)` with r(u) `(P,)`. At λ = 1 no move is needed."""
        log_w = (rung.power - before) * r
        found = Particles.equal(u[None]).reweighted(log_w[None], 1.0, noise.derive("resample"))
        log_mean, u = float(log_w.logsumexp(0)) - math.log(len(r)), found.u[0]
        acceptance = math.nan
        if rung.power < 1:
            u, acceptance = self._moved(u, rung, noise.derive("move"))
        return Climbed(u, log_mean, float(found.share), acceptance)

    def _moved(self, u: Tensor, rung: Rung, noise: Noise) -> tuple[Tensor, float]:
        """Return particles after the sampler's steps, and their mean acceptance."""
        density, parts, accepted = Tempered(self.density, rung.power), [], []
        for few in self._batches(len(u)):
            trace = Trace()
            parts.append(run(rung.sampler, density, u[few], noise.at(few.start), observe=trace, name="log Z").u)
            if not trace.accepted:
                raise ConfigError(
                    f"annealing.sampler: {type(rung.sampler).__name__} accepts every step, so it changes the density "
                    "and the direction of log Z's bias is unknown; use one that accepts or rejects, such as pcn-mala"
                )
            accepted.append(torch.stack(trace.accepted, dim=1).double().mean(1))
        return torch.cat(parts), float(torch.cat(accepted).mean())

    def _remainder(self, u: Tensor) -> Tensor:
        """Return r(u) in double precision, `(P,)`."""
        with torch.no_grad():
            r = torch.cat([self.density.remainder(u[few]) for few in self._batches(len(u))]).double()
        bad = int((r.isnan() | (r == math.inf)).sum())
        if bad or not r.isfinite().any():
            raise NonFiniteError(
                f"log Z: the log tilt f is not finite at {bad or len(r)} of {len(r)} particles; look at the energies "
                "in metrics.jsonl, and train with a lower learning rate"
            )
        return r

    def _batches(self, n: int) -> Iterator[slice]:
        return (slice(start, min(start + self.rows, n)) for start in range(0, n, self.rows))


def _next_power(r: Tensor, before: float, share: float) -> float:
    """Find by bisection the largest λ ≤ 1 whose weights exp((λ − λ_before) r) have this ESS / P."""

    def enough(step: float) -> bool:
        return float(effective_share(step * r[None])) >= share

    low, high = 0.0, 1 - before
    if enough(high):
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return min(before + max(low, SMALLEST), 1.0)


def _followed(sampler: Any, acceptance: float) -> Sampler:
    """Return the sampler with its step size moved towards its target acceptance, if it has one."""
    followed: Sampler = sampler
    if isinstance(sampler, Adapts) and sampler.target_acceptance > 0 and not math.isnan(acceptance):
        followed = sampler.with_step_size(sampler.step_size * math.exp(GAIN * (acceptance - sampler.target_acceptance)))
    return followed
