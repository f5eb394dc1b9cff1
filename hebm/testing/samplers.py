"""What a sampler promises. Every check is called with a sampler."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hebm.densities import LogDensity
from hebm.interfaces import Info, Sampler, StepNoise
from hebm.noise import Noise
from hebm.sampling import draw_step_noise, run
from hebm.testing.promises import (
    expect_close,
    expect_equal,
    expect_finite,
    expect_shape,
    no_global_randomness,
    promise,
)
from hebm.testing.skewed import SkewedTarget, skewed_draws
from hebm.testing.stein import BOUND, standard_errors
from hebm.testing.subjects import GaussianTarget, KnownFactor, LinearTarget, points

ROWS, DIM, FEW = 5, 2, 64
CHAINS, STEPS, ERRORS = 8192, 100, 4.0
PLAIN_H = 0.4
"""Step size h at which the laws of chains are compared."""
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.3], [0.3, 0.7]], dtype=torch.float64)
NOT_STATIONARY = (
    "an adjusted sampler accepts with probability min(1, p(u') q(u|u') / (p(u) q(u'|u))), where q(u'|u) is its "
    "proposal's density, with a fresh xi and a fresh uniform at every step; a value or gradient in its state belongs "
    "to the u in its state. An unadjusted one moves by u' = u + (h/2) grad log p(u) + sqrt(h) xi. For a tempered "
    "sampler, check a recipe with temperature 1"
)
INFO = "report value and grad of the state before the step or after it; after a rejection, of the state that is kept"
SLOPE = torch.tensor([1.0, -2.0], dtype=torch.float64)


class _NaNAway(LinearTarget):
    """Flat, but NaN everywhere except at the points it was made with."""

    def __init__(self, u: Tensor) -> None:
        super().__init__(torch.zeros(u.shape[1], dtype=u.dtype))
        self.u = u

    def remainder(self, u: Tensor) -> Tensor:
        """Return 0 at the points it was made with, NaN elsewhere."""
        away = (u.detach() != self.u).any(1)
        return (0 * u).sum(1) + torch.where(away, math.nan, 0.0)


def fitting(sampler: Sampler, density: LogDensity) -> LogDensity:
    """Return a density of N(0, I) and a remainder that is equal to this one, if the sampler needs a Gaussian factor."""
    if not sampler.needs_factor:
        return density

    def remainder(u: Tensor) -> Tensor:
        return density.gaussian(u).value + density.remainder(u) + 0.5 * u.square().sum(1)

    return KnownFactor(remainder, scale=density.scale)


def _target(sampler: Sampler, scale: float | Tensor = 1.0) -> LogDensity:
    return fitting(sampler, GaussianTarget(MEAN, COV, scale))


def _start(rows: int = ROWS) -> Tensor:
    return points(rows, DIM, torch.float64)


def _noise(sampler: Sampler, u: Tensor, name: str = "step") -> StepNoise:
    return draw_step_noise(sampler, u, Noise(0, name, dtype=u.dtype))


def one_step(sampler: Sampler, density: LogDensity, u: Tensor, noise: StepNoise) -> tuple[Any, Info]:
    """Return the state after one step from u, and what the step reports."""
    with torch.no_grad():
        return sampler.step(density, sampler.init(density, u), noise)


def move(sampler: Sampler, slope: float, normal: float, scale: float | Tensor = 1.0) -> Tensor:
    """Return the displacement `(ROWS, D)` of one step on log p = slope · (u_0 − 2 u_1) with every ξ = `normal`.

    An adjusted sampler accepts it.
    """
    u = torch.zeros(ROWS, DIM, dtype=torch.float64)
    fed = StepNoise(
        torch.full_like(u, normal) if "normal" in sampler.draws else None,
        torch.full_like(u[:, 0], 0.5) if "uniform" in sampler.draws else None,
    )
    moved: Tensor = one_step(sampler, fitting(sampler, LinearTarget(slope * SLOPE, scale)), u, fed)[0][0]
    return moved


def check_state(sampler: Sampler) -> None:
    """The state is a NamedTuple, u `(B, D)` first; Info has value `(B,)` and gradient `(B, D)`, or no gradient."""
    u = _start()
    fix = "return (State(u, ...), Info(value, grad, accepted)), State a NamedTuple with u first"
    initial = sampler.init(_target(sampler), u)
    promise(isinstance(initial, tuple) and hasattr(initial, "_fields"), "a NamedTuple", type(initial).__name__, fix)
    expect_equal("init(density, u)[0] = u", initial[0], u, fix)
    state, info = one_step(sampler, _target(sampler), u, _noise(sampler, u))
    expect_shape("state[0]", state[0], (ROWS, DIM), fix)
    promise(state[0].dtype == u.dtype, f"u stays {u.dtype}", str(state[0].dtype), "make tensors in the type of u")
    expect_shape("info.value", info.value, (ROWS,), fix)
    if info.grad is not None:
        expect_shape("info.grad", info.grad, (ROWS, DIM), fix)
    if info.accepted is not None:
        expect_shape("info.accepted", info.accepted, (ROWS,), fix)
    promise(sampler.steps >= 1, "steps >= 1", str(sampler.steps), "bound it by low=1")


def check_info(sampler: Sampler) -> None:
    """`info.value` and `info.grad` are the density's at one point: where the step started or ended, or near by.

    A sampler that uses no gradient has `grad = None`, and its value is that of the state before or after the step.
    """
    density, u = _target(sampler, 4.0), points(FEW, DIM, torch.float64)
    with torch.no_grad():
        state, noise = sampler.init(density, u), Noise(0, "info", dtype=torch.float64)
        for _ in range(3):
            before = state[0].clone()
            state, info = sampler.step(density, state, draw_step_noise(sampler, u, noise))
            expect_finite("info.value", info.value, INFO)
            if info.grad is None:
                _expect_value_of(info.value, before, state[0])
            else:
                _expect_gradient_of(info.value, info.grad, before, state[0])


def _log_p(u: Tensor) -> Tensor:
    return GaussianTarget(MEAN, COV).gaussian(u).value


def _expect_value_of(value: Tensor, before: Tensor, after: Tensor) -> None:
    off = torch.minimum((value - _log_p(before)).abs(), (value - _log_p(after)).abs())
    far = int((off > 1e-9).sum())
    promise(not far, "info.value is log p before or after the step", f"{far} of {FEW} rows not", INFO)


def _expect_gradient_of(value: Tensor, grad: Tensor, before: Tensor, after: Tensor) -> None:
    expect_finite("info.grad", grad, INFO)
    at = MEAN - grad @ COV  # where this Gaussian has that gradient
    expect_close("info.value = log p where grad log p = info.grad", value, _log_p(at), 1e-9, INFO)
    away = torch.minimum((at - before).norm(dim=1), (at - after).norm(dim=1))
    far = int((away > 2 * (after - before).norm(dim=1) + 1e-6).sum())
    promise(not far, "info.grad is that of the state before or after the step", f"{far} of {FEW} rows not", INFO)


def check_precision(sampler: Sampler) -> None:
    """A chain computes in the type of u: float32 stays float32, and float64 is not rounded to float32."""
    fix = "make tensors by u.new_zeros(...) or with dtype=u.dtype, and convert nothing"
    for dtype in (torch.float32, torch.float64):
        density, u = fitting(sampler, GaussianTarget(MEAN.to(dtype), COV.to(dtype))), points(ROWS, DIM, dtype)
        noise = draw_step_noise(sampler, u, Noise(0, "step", dtype=dtype))
        state, info = one_step(sampler, density, u, noise)
        seen = {"u": state[0], "info.value": info.value, "info.grad": info.grad}
        other = [f"{name} is {t.dtype}" for name, t in seen.items() if t is not None and t.dtype != dtype]
        promise(not other, f"{dtype} in, {dtype} out", ", ".join(other), fix)
    rounded = bool((state[0].float().double() == state[0]).all())
    promise(not rounded, "float64 chains have 53 bits", "every coordinate is a float32 number", fix)


def check_declared_draws(sampler: Sampler) -> None:
    """`draws` names the random numbers of a step, and a step needs no others."""
    unknown = set(sampler.draws) - set(StepNoise._fields)
    promise(not unknown, f"draws among {StepNoise._fields}", str(sampler.draws), "correct the class attribute")
    u = _start()
    try:
        one_step(sampler, _target(sampler), u, _noise(sampler, u))
    except (TypeError, AttributeError) as error:
        fix = 'declare it: draws = ("normal", "uniform")'
        promise(False, f"a step needs only {sampler.draws}", f"{type(error).__name__}: {error}", fix)


def check_pure(sampler: Sampler) -> None:
    """A step is a function of density, state and noise: it repeats, and changes none of them."""
    u, density = _start(), _target(sampler)
    noise, state = _noise(sampler, u), sampler.init(density, u)
    kept = [part.clone() for part in state]
    with torch.no_grad():
        first, _ = sampler.step(density, state, noise)
        first = [part.clone() for part in first]
        sampler.step(density, sampler.init(density, u + 1), _noise(sampler, u, "other"))
        second, _ = sampler.step(density, state, noise)
    fix = "keep nothing on the sampler; put what the next step needs into the state, and never write in place"
    for before, after in zip(kept, state, strict=True):
        expect_equal("the state given is unchanged", after, before, fix)
    for a, b in zip(second, first, strict=True):
        expect_equal("the same step gives the same result", a, b, fix)


def check_no_global_rng(sampler: Sampler) -> None:
    """A chain reads no global generator, and repeats under the same noise."""
    with no_global_randomness("the sampler"):
        a, b = (run(sampler, _target(sampler), _start(), Noise(0, "chain", dtype=torch.float64), 3).u for _ in range(2))
    expect_equal("the same noise gives the same chain", a, b, "use the numbers in StepNoise only")


def unit_h(sampler: Sampler) -> float:
    """Return the sampler's h at scale 1, from the size of its noise."""
    return float(move(sampler, 0.0, 1.0)[0, 0]) ** 2


def chain(sampler: Sampler, density: LogDensity, start: Tensor) -> tuple[Tensor, bool]:
    """Return the end of a chain from each start, and whether the sampler adjusts its steps."""
    adjusted = one_step(sampler, density, start, _noise(sampler, start))[1].accepted is not None
    with torch.no_grad():
        return run(sampler, density, start, Noise(0, "chain", dtype=torch.float64), STEPS).u, adjusted


def check_stationary(sampler: Sampler) -> None:
    """It keeps N(m, S): exactly if it adjusts, else with the bias of ULA, S (I − (h/4) S⁻¹)⁻¹; to 4 standard errors."""
    h = unit_h(sampler)
    promise(h > 0, "noise moves u", "it does not", NOT_STATIONARY)
    start = MEAN + _start(CHAINS) @ torch.linalg.cholesky(COV).T
    end, adjusted = chain(sampler, _target(sampler, PLAIN_H / h), start)
    off = {"the exact ones": _standard_errors(end, COV)}
    if not adjusted:
        bias = torch.eye(DIM, dtype=torch.float64) - PLAIN_H / 4 * torch.linalg.inv(COV)
        off["those of ULA"] = _standard_errors(end, COV @ torch.linalg.inv(bias))
    seen = " and ".join(f"{errors:.1f} standard errors from {name}" for name, errors in off.items())
    promised = f"the moments of a Gaussian within {ERRORS:g} standard errors"
    promise(min(off.values()) <= ERRORS, promised, f"moments are {seen} (at h = {PLAIN_H:g})", NOT_STATIONARY)


def check_stationary_skewed(sampler: Sampler) -> None:
    """It keeps a skewed density that it starts from: Stein's identity holds within 5 standard errors.

    An unadjusted sampler may have ULA's bias: there, E[s uᵀ + I + (h/4) s sᵀ] = 0 in place of E[s uᵀ + I] = 0, with
    s = ∇ log p, in the symmetric part.
    """
    h = unit_h(sampler)
    density = fitting(sampler, SkewedTarget(PLAIN_H / h if h else 1.0))
    u, adjusted = chain(sampler, density, skewed_draws(CHAINS))
    score = density.value_and_grad(u).grad
    exact, waves = linear_terms(score, u), [u.sin() * score + u.cos(), u.sin().flip(1) * score]
    off = {"for an exact sampler": standard_errors(torch.cat([score, exact.flatten(1), *waves], dim=1))}
    if not adjusted:
        biased = exact + PLAIN_H / 4 * score.unsqueeze(2) * score.unsqueeze(1)
        off["for ULA"] = standard_errors(torch.cat([score, biased.flatten(1)], dim=1))
    seen = " and ".join(f"{errors:.1f} standard errors {name}" for name, errors in off.items())
    promised = f"Stein's identity on a skewed density within {BOUND:g} standard errors"
    promise(min(off.values()) <= BOUND, promised, f"it is off by {seen} (at h = {PLAIN_H:g})", NOT_STATIONARY)


def linear_terms(score: Tensor, u: Tensor) -> Tensor:
    """Return the symmetric part of s uᵀ + I `(n, D, D)`, whose mean is 0 under the density."""
    outer = score.unsqueeze(2) * u.unsqueeze(1)
    return 0.5 * (outer + outer.mT) + torch.eye(u.shape[1], dtype=u.dtype)


def _standard_errors(sample: Tensor, cov: Tensor) -> float:
    """Return the largest deviation of mean and covariance from N(MEAN, cov), in standard errors."""
    n, var = len(sample), cov.diagonal()
    mean_error = (sample.mean(0) - MEAN).abs() / (var / n).sqrt()
    centred = sample - MEAN
    spread = ((var.outer(var) + cov.square()) / n).sqrt()
    cov_error = (centred.T @ centred / n - cov).abs() / spread
    largest = torch.cat([mean_error, cov_error.flatten()]).max()
    return float(largest) if bool(largest.isfinite()) else math.inf


def check_nan_chain(sampler: Sampler) -> None:
    """A chain that starts as NaN leaves every other chain unchanged bit for bit, and is counted."""
    u, noise = _start(), Noise(0, "chain", dtype=torch.float64)
    spoiled = u.clone()
    spoiled[1] = math.nan
    clean = run(sampler, _target(sampler), u, noise.derive(), 5)
    with_nan = run(sampler, _target(sampler), spoiled, noise.derive(), 5)
    keep, fix = [0, *range(2, ROWS)], "no sums, norms or statistics over the batch; no repair of NaN"
    expect_equal("a NaN chain leaves the others unchanged", with_nan.u[keep], clean.u[keep], fix)
    counted = int(with_nan.nonfinite) - int(clean.nonfinite)
    promise(counted == 1, "the chain that is NaN stays so and is counted", f"{counted} counted", fix)


def check_nan_rejected(sampler: Sampler) -> None:
    """An adjusted sampler rejects a proposal whose density is NaN. Passes for unadjusted ones."""
    u = _start()
    state, info = one_step(sampler, fitting(sampler, _NaNAway(u)), u, _noise(sampler, u))
    if info.accepted is None:
        return
    fix = "accept = log(uniform) < log_ratio, which is False for NaN, and select by torch.where"
    expect_equal("a NaN proposal leaves u where it was", state[0], u, fix)
    promise(not bool(info.accepted.any()), "accepted = 0", str(info.accepted.tolist()), fix)
    finite = all(bool(part.isfinite().all()) for part in state)
    promise(finite, "the state stays finite", "NaN in the state", fix)
