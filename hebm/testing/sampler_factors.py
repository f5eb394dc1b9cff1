"""Check how a sampler uses a density's scale and its Gaussian factor N(m, s² I)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hebm.densities import Factor
from hebm.interfaces import Sampler
from hebm.noise import Noise
from hebm.samplers import Adapts
from hebm.sampling import Trace, draw_step_noise, run
from hebm.testing.promises import expect, expect_close, expect_equal
from hebm.testing.sampler_laws import CHAINS, NOT_STATIONARY, chain, linear_terms, unit_h
from hebm.testing.samplers import ROWS, move, one_step
from hebm.testing.skewed import FactorTarget
from hebm.testing.stein import BOUND, standard_errors
from hebm.testing.subjects import KnownFactor, points

FACTOR_H = 0.03
"""Step size h of the chains on a density with a Gaussian factor."""
SEEN, IGNORED, WALKERS = 6, 994, 512
"""Numbers of coordinates that the remainder uses and ignores, and of chains whose acceptance is compared."""


def check_stationary_factor(sampler: Sampler) -> None:
    """Check that the sampler keeps a tilted N(m, s² I) with m ≠ 0 and s ≠ 1, which differ between rows.

    Stein's identity must hold to 5 standard errors, for an unadjusted sampler up to twice the bias of ULA.
    """
    h = unit_h(sampler)
    density = FactorTarget(CHAINS, FACTOR_H / h if h else 1.0)
    start = density.draws()
    u, adjusted = chain(sampler, density, start)
    x, score = (u - density.mean) / density.std, density.std * density.value_and_grad(u).grad
    terms = [score, linear_terms(score, x).flatten(1), x.sin() * score + x.cos(), x.sin().flip(1) * score]
    bias = FACTOR_H / 2 * float(density.value_and_grad(start).grad.square().mean())
    off = standard_errors(torch.cat(terms, dim=1), 0.0 if adjusted else bias)
    expected = f"chains that start from a tilted N(m, s²) satisfy Stein's identity within {BOUND:g} standard errors"
    fix = (
        "if the acceptance uses density.remainder, propose with m and s of density.factor(), "
        "u' = m + sqrt(1 - b²) (u - m) + b s xi; or use density.value_and_grad, the whole density, in both. Also, "
    )
    expect(
        off <= BOUND, expected, f"a deviation of {off:.1f} standard errors (at h = {FACTOR_H:g})", fix + NOT_STATIONARY
    )


def check_scale(sampler: Sampler) -> None:
    """Check that a density's `scale`, a number or `(B, 1)`, multiplies h: drift by scale, noise by √scale.

    A sampler that needs the density's Gaussian factor N(m, s² I) must ignore the scale; its h is in units of s².
    """
    if sampler.needs_factor:
        _expect_units_of_the_factor(sampler)
        return
    fix = "compute h and its root by h, root = hebm.sampling.step_sizes(h, density.scale)"
    rows = torch.tensor([0.25, 1.0, 4.0, 0.25, 9.0], dtype=torch.float64).unsqueeze(1)
    for what, slope, normal, power in (("drift", 1.0, 0.0, 1.0), ("noise", 0.0, 1.0, 0.5)):
        plain = move(sampler, slope, normal)
        expect_close(
            f"a density's scale of 0.25 multiplies the {what} by {0.25**power:g}",
            move(sampler, slope, normal, 0.25),
            plain * 0.25**power,
            1e-9,
            fix,
        )
        seen = move(sampler, slope, normal, rows)
        expect_close(f"a scale per row multiplies the {what} of its row", seen, plain * rows**power, 1e-9, fix)


def _expect_units_of_the_factor(sampler: Sampler) -> None:
    """Raise unless a step from u = m + s v ends at m + s v' for any scale of the density."""
    v, scales = points(ROWS, 2, torch.float64), (1.0, 0.25, 1 + torch.arange(ROWS, dtype=torch.float64).unsqueeze(1))
    factor = Factor(points(ROWS, 2, torch.float64, "mean"), 0.5 + points(ROWS, 1, torch.float64, "std").abs())
    noise = draw_step_noise(sampler, v, Noise(0, "step", dtype=torch.float64))
    fix = "step in v = (u - m) / s, with m and s of density.factor(), and do not use density.scale"
    plain: Tensor = one_step(sampler, KnownFactor(_quadratic), v, noise)[0][0]
    for scale in scales:
        density, u = KnownFactor(_quadratic, factor, scale), factor.mean + factor.std * v
        moved = (one_step(sampler, density, u, noise)[0][0] - factor.mean) / factor.std
        expect_close("a step in units of s that ignores the density's scale", moved, plain, 1e-9, fix)


def _quadratic(v: Tensor) -> Tensor:
    """Return −1.5 |v|² of the first coordinates; some samplers accept every proposal if the remainder is linear."""
    return -1.5 * v[:, :SEEN].square().sum(1)


def check_step_size(sampler: Sampler) -> None:
    """Check that a sampler with a target acceptance takes other step sizes, and accepts more at smaller ones.

    Passes for samplers without `target_acceptance`.
    """
    if not isinstance(sampler, Adapts):
        return
    fix = (
        "return attrs.evolve(self, step_size=h) from with_step_size(h), with h clipped to the largest allowed step size"
    )
    h, rates = sampler.step_size, []
    for size in (1e-4, 1e6):
        other: Any = sampler.with_step_size(size)
        expect(
            type(other) is type(sampler),
            f"with_step_size returns a {type(sampler).__name__}",
            type(other).__name__,
            fix,
        )
        expect(
            other.steps == sampler.steps, f"with_step_size keeps steps = {sampler.steps}", f"steps = {other.steps}", fix
        )
        expect(
            other.step_size <= size,
            f"with_step_size({size:g}) has a step size of at most {size:g}",
            f"{other.step_size:g}",
            fix,
        )
        trace, u = Trace(), points(WALKERS, SEEN, torch.float64)
        run(other, KnownFactor(_quadratic), u, Noise(0, "chain", dtype=torch.float64), 1, trace)
        rates.append(float(trace.accepted[0].mean()))
    expect(
        sampler.step_size == h,
        "with_step_size does not change the sampler itself",
        f"a step size of {sampler.step_size:g}",
        fix,
    )
    expect(
        rates[0] > max(0.9, rates[1]),
        "acceptance above 0.9 at h = 1e-4, and lower at h = 1e6",
        f"{rates[0]:.2f} and {rates[1]:.2f}",
        fix,
    )


def check_flat_remainder(sampler: Sampler) -> None:
    """Check that a sampler that needs a Gaussian factor accepts every proposal if the remainder is constant.

    Its chains must move. Passes for other samplers.
    """
    if not sampler.needs_factor:
        return
    mean, std = points(WALKERS, 2, torch.float64, "mean"), 0.5 + points(WALKERS, 1, torch.float64, "std").abs()
    density = KnownFactor(lambda v: 0 * v.sum(1), Factor(mean, std))
    trace, start = Trace(), mean + 3 * std * points(WALKERS, 2, torch.float64)
    end = run(sampler, density, start, Noise(0, "chain", dtype=torch.float64), 3, trace).u
    accepted = torch.stack(trace.accepted)
    fix = (
        "accept by the remainder alone, with a proposal that keeps N(m, s² I); then a flat remainder gives log ratio 0"
    )
    expect_equal("every proposal is accepted if the remainder is constant", accepted, torch.ones_like(accepted), fix)
    expect(not bool((end == start).any()), "all chains move", "some chains did not move", fix)


def check_ignored_coordinates(sampler: Sampler) -> None:
    """Check that acceptance does not depend on the number of coordinates that the remainder ignores.

    Passes for samplers that need no Gaussian factor.
    """
    if not sampler.needs_factor:
        return
    rates: dict[int, Tensor] = {}
    for dim in (SEEN, SEEN + IGNORED):
        trace, u = Trace(), points(WALKERS, dim, torch.float64)
        run(sampler, KnownFactor(_quadratic), u, Noise(0, "chain", dtype=torch.float64), 2, trace)
        rates[dim] = torch.stack(trace.accepted).mean(0)
    off = standard_errors((rates[SEEN] - rates[SEEN + IGNORED]).unsqueeze(1))
    seen = ", ".join(f"{float(rate.mean()):.3f} with {dim}" for dim, rate in rates.items())
    fix = "propose v' so that N(0, I) is kept at any step size, such as v' = sqrt(1 - b²) v + b xi"
    expect(
        off <= BOUND,
        f"equal acceptance with {SEEN} coordinates and with {IGNORED} more that the remainder ignores",
        seen,
        fix,
    )
