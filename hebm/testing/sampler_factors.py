"""What a sampler promises of a density's scale and of its Gaussian factor N(m, s² I)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hebm.densities import Factor
from hebm.interfaces import Sampler
from hebm.noise import Noise
from hebm.samplers import Adapts
from hebm.sampling import Trace, draw_step_noise, run
from hebm.testing.promises import expect_close, expect_equal, promise
from hebm.testing.samplers import CHAINS, NOT_STATIONARY, ROWS, chain, linear_terms, move, one_step, unit_h
from hebm.testing.skewed import FactorTarget
from hebm.testing.stein import BOUND, standard_errors
from hebm.testing.subjects import KnownFactor, points

FACTOR_H = 0.03
"""Step size h at which the law of chains on a density with a Gaussian factor is compared."""
SEEN, IGNORED, WALKERS = 6, 994, 512
"""Coordinates that a remainder depends on and others; chains whose acceptance is compared."""


def check_stationary_factor(sampler: Sampler) -> None:
    """It keeps a tilted density whose Gaussian factor N(m, s² I) has m ≠ 0 and s ≠ 1, which differ from row to row.

    Stein's identity holds within 5 standard errors, and for an unadjusted sampler up to twice the bias of ULA.
    """
    h = unit_h(sampler)
    density = FactorTarget(CHAINS, FACTOR_H / h if h else 1.0)
    start = density.draws()
    u, adjusted = chain(sampler, density, start)
    x, score = (u - density.mean) / density.std, density.std * density.value_and_grad(u).grad
    terms = [score, linear_terms(score, x).flatten(1), x.sin() * score + x.cos(), x.sin().flip(1) * score]
    bias = FACTOR_H / 2 * float(density.value_and_grad(start).grad.square().mean())
    off = standard_errors(torch.cat(terms, dim=1), 0.0 if adjusted else bias)
    promised = f"Stein's identity on a tilted N(m, s²) within {BOUND:g} standard errors"
    fix = (
        "use m and s of density.factor() in the proposal wherever the acceptance uses density.remainder: "
        "u' = m + sqrt(1 - b²) (u - m) + b s xi; or use density.value_and_grad in both, which has the whole density. "
    )
    promise(off <= BOUND, promised, f"it is off by {off:.1f} (at h = {FACTOR_H:g})", fix + NOT_STATIONARY)


def check_scale(sampler: Sampler) -> None:
    """A density's `scale`, a number or `(B, 1)`, multiplies h: drift by scale, noise by √scale, row by row.

    It has no effect on a sampler that needs the density's Gaussian factor N(m, s² I): there, h is in units of s².
    """
    if sampler.needs_factor:
        _expect_units_of_the_factor(sampler)
        return
    fix = "h, root = hebm.sampling.step_sizes(h, density.scale)"
    rows = torch.tensor([0.25, 1.0, 4.0, 0.25, 9.0], dtype=torch.float64).unsqueeze(1)
    for what, slope, normal, power in (("drift", 1.0, 0.0, 1.0), ("noise", 0.0, 1.0, 0.5)):
        plain = move(sampler, slope, normal)
        expect_close(f"scale 0.25 on the {what}", move(sampler, slope, normal, 0.25), plain * 0.25**power, 1e-9, fix)
        seen = move(sampler, slope, normal, rows)
        expect_close(f"a scale per row on the {what}", seen, plain * rows**power, 1e-9, fix)


def _expect_units_of_the_factor(sampler: Sampler) -> None:
    """Raise unless a step from u = m + s v ends at m + s v', whatever the density's scale."""
    v, scales = points(ROWS, 2, torch.float64), (1.0, 0.25, 1 + torch.arange(ROWS, dtype=torch.float64).unsqueeze(1))
    factor = Factor(points(ROWS, 2, torch.float64, "mean"), 0.5 + points(ROWS, 1, torch.float64, "std").abs())
    noise = draw_step_noise(sampler, v, Noise(0, "step", dtype=torch.float64))
    fix = "step in v = (u - m) / s, with m and s of density.factor(), and leave density.scale out"
    plain: Tensor = one_step(sampler, KnownFactor(_quadratic), v, noise)[0][0]
    for scale in scales:
        density, u = KnownFactor(_quadratic, factor, scale), factor.mean + factor.std * v
        moved = (one_step(sampler, density, u, noise)[0][0] - factor.mean) / factor.std
        expect_close("a step is in units of s, without the density's scale", moved, plain, 1e-9, fix)


def _quadratic(v: Tensor) -> Tensor:
    """Return −1.5 |v|² of the coordinates that are seen: of a linear remainder, some samplers accept everything."""
    return -1.5 * v[:, :SEEN].square().sum(1)


def check_step_size(sampler: Sampler) -> None:
    """A sampler with a target of acceptance takes other step sizes, and accepts more often at smaller ones.

    Passes for samplers without `target_acceptance`.
    """
    if not isinstance(sampler, Adapts):
        return
    fix = "with_step_size(h) returns attrs.evolve(self, step_size=h), with the largest step size allowed for a larger h"
    h, rates = sampler.step_size, []
    for size in (1e-4, 1e6):
        other: Any = sampler.with_step_size(size)
        promise(type(other) is type(sampler), "with_step_size returns the same sampler", type(other).__name__, fix)
        promise(other.steps == sampler.steps, "only the step size differs", f"steps = {other.steps}", fix)
        promise(other.step_size <= size, f"a step size of at most {size:g}", f"{other.step_size:g}", fix)
        trace, u = Trace(), points(WALKERS, SEEN, torch.float64)
        run(other, KnownFactor(_quadratic), u, Noise(0, "chain", dtype=torch.float64), 1, trace)
        rates.append(float(trace.accepted[0].mean()))
    promise(sampler.step_size == h, "the sampler itself is unchanged", f"its step size is {sampler.step_size:g}", fix)
    promise(rates[0] > max(0.9, rates[1]), "small steps are accepted, large ones less often", f"{rates}", fix)


def check_flat_remainder(sampler: Sampler) -> None:
    """A sampler that needs a Gaussian factor accepts every proposal where the remainder is constant, and moves."""
    if not sampler.needs_factor:
        return
    mean, std = points(WALKERS, 2, torch.float64, "mean"), 0.5 + points(WALKERS, 1, torch.float64, "std").abs()
    density = KnownFactor(lambda v: 0 * v.sum(1), Factor(mean, std))
    trace, start = Trace(), mean + 3 * std * points(WALKERS, 2, torch.float64)
    end = run(sampler, density, start, Noise(0, "chain", dtype=torch.float64), 3, trace).u
    accepted = torch.stack(trace.accepted)
    fix = "accept by the remainder alone, and leave N(m, s² I) unchanged by the proposal: log ratio 0 where r is flat"
    expect_equal("every proposal is accepted where the remainder is flat", accepted, torch.ones_like(accepted), fix)
    promise(not bool((end == start).any()), "chains move", "some did not", fix)


def check_ignored_coordinates(sampler: Sampler) -> None:
    """A sampler that needs a Gaussian factor accepts as often whatever the number of coordinates that r ignores."""
    if not sampler.needs_factor:
        return
    rates: dict[int, Tensor] = {}
    for dim in (SEEN, SEEN + IGNORED):
        trace, u = Trace(), points(WALKERS, dim, torch.float64)
        run(sampler, KnownFactor(_quadratic), u, Noise(0, "chain", dtype=torch.float64), 2, trace)
        rates[dim] = torch.stack(trace.accepted).mean(0)
    off = standard_errors((rates[SEEN] - rates[SEEN + IGNORED]).unsqueeze(1))
    seen = ", ".join(f"{float(rate.mean()):.3f} with {dim}" for dim, rate in rates.items())
    fix = "propose v' so that N(0, I) stays unchanged whatever the step, such as v' = sqrt(1 - b²) v + b xi"
    promise(off <= BOUND, f"the same acceptance with {SEEN} coordinates and with {IGNORED} more", seen, fix)
