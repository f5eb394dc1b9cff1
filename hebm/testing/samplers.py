"""Checks of a sampler. Every check is called with a sampler."""

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
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    expect_shape,
    no_global_randomness,
)
from hebm.testing.subjects import GaussianTarget, KnownFactor, LinearTarget, points

ROWS, DIM, FEW = 5, 2, 64
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.3], [0.3, 0.7]], dtype=torch.float64)
INFO = "return value and grad at the state before or after the step; after a rejection, at the state that is kept"
SLOPE = torch.tensor([1.0, -2.0], dtype=torch.float64)


class _NaNAway(LinearTarget):
    """A flat density that is NaN everywhere except at given points."""

    def __init__(self, u: Tensor) -> None:
        super().__init__(torch.zeros(u.shape[1], dtype=u.dtype))
        self.u = u

    def remainder(self, u: Tensor) -> Tensor:
        """Return 0 at the given points, NaN elsewhere."""
        away = (u.detach() != self.u).any(1)
        return (0 * u).sum(1) + torch.where(away, math.nan, 0.0)


def fitting(sampler: Sampler, density: LogDensity) -> LogDensity:
    """Return the density, written as N(0, I) times a remainder if the sampler needs a Gaussian factor."""
    if not sampler.needs_factor:
        return density

    def remainder(u: Tensor) -> Tensor:
        return density.gaussian(u).value + density.remainder(u) + 0.5 * u.square().sum(1)

    return KnownFactor(remainder, scale=density.scale)


def target(sampler: Sampler, scale: float | Tensor = 1.0) -> LogDensity:
    """Return the density N(MEAN, COV), in a form that the sampler accepts."""
    return fitting(sampler, GaussianTarget(MEAN, COV, scale))


def starts(rows: int = ROWS) -> Tensor:
    """Return standard normal starts of chains, `(rows, D)`, in float64."""
    return points(rows, DIM, torch.float64)


def step_noise(sampler: Sampler, u: Tensor, name: str = "step") -> StepNoise:
    """Return the random numbers of one step from u."""
    return draw_step_noise(sampler, u, Noise(0, name, dtype=u.dtype))


def one_step(sampler: Sampler, density: LogDensity, u: Tensor, noise: StepNoise) -> tuple[Any, Info]:
    """Return the state and the info after one step from u."""
    with torch.no_grad():
        return sampler.step(density, sampler.init(density, u), noise)


def move(sampler: Sampler, slope: float, normal: float, scale: float | Tensor = 1.0) -> Tensor:
    """Return the displacement `(ROWS, D)` of one step on log p = slope · (u_0 − 2 u_1) with every ξ = `normal`.

    An adjusted sampler accepts this step.
    """
    u = torch.zeros(ROWS, DIM, dtype=torch.float64)
    fed = StepNoise(
        torch.full_like(u, normal) if "normal" in sampler.draws else None,
        torch.full_like(u[:, 0], 0.5) if "uniform" in sampler.draws else None,
    )
    moved: Tensor = one_step(sampler, fitting(sampler, LinearTarget(slope * SLOPE, scale)), u, fed)[0][0]
    return moved


def check_state(sampler: Sampler) -> None:
    """Check that the state is a NamedTuple with u `(B, D)` first, and Info has value `(B,)` and gradient `(B, D)`.

    The gradient and `accepted` `(B,)` may be None.
    """
    u = starts()
    fix = "return (State(u, …), Info(value, grad, accepted)), where State is a NamedTuple with u first"
    initial = sampler.init(target(sampler), u)
    named = isinstance(initial, tuple) and hasattr(initial, "_fields")
    expect(named, "init returns a NamedTuple", type(initial).__name__, fix)
    expect_equal("init(density, u)[0] = u", initial[0], u, fix)
    state, info = one_step(sampler, target(sampler), u, step_noise(sampler, u))
    expect_shape("state[0]", state[0], (ROWS, DIM), fix)
    expect(
        state[0].dtype == u.dtype,
        f"a step keeps u in {u.dtype}",
        str(state[0].dtype),
        "create tensors with dtype=u.dtype",
    )
    expect_shape("info.value", info.value, (ROWS,), fix)
    if info.grad is not None:
        expect_shape("info.grad", info.grad, (ROWS, DIM), fix)
    if info.accepted is not None:
        expect_shape("info.accepted", info.accepted, (ROWS,), fix)
    expect(sampler.steps >= 1, "steps >= 1", str(sampler.steps), "declare the option with low=1")


def check_info(sampler: Sampler) -> None:
    """Check that `info.value` and `info.grad` belong to one point, at or near the step's start or end.

    If `grad` is None, the value must be that of the start or the end.
    """
    density, u = target(sampler, 4.0), points(FEW, DIM, torch.float64)
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
    expect(not far, "info.value is log p before or after the step", f"another value in {far} of {FEW} rows", INFO)


def _expect_gradient_of(value: Tensor, grad: Tensor, before: Tensor, after: Tensor) -> None:
    expect_finite("info.grad", grad, INFO)
    at = MEAN - grad @ COV  # the point at which this Gaussian has the gradient
    expect_close("info.value is log p at the point whose gradient is info.grad", value, _log_p(at), 1e-9, INFO)
    away = torch.minimum((at - before).norm(dim=1), (at - after).norm(dim=1))
    far = int((away > 2 * (after - before).norm(dim=1) + 1e-6).sum())
    expect(
        not far, "info.grad is the gradient before or after the step", f"another gradient in {far} of {FEW} rows", INFO
    )


def check_precision(sampler: Sampler) -> None:
    """Check that a chain computes in the dtype of u, and does not round float64 to float32."""
    fix = "create tensors by u.new_zeros(…) or with dtype=u.dtype, and convert no dtype"
    for dtype in (torch.float32, torch.float64):
        density, u = fitting(sampler, GaussianTarget(MEAN.to(dtype), COV.to(dtype))), points(ROWS, DIM, dtype)
        noise = draw_step_noise(sampler, u, Noise(0, "step", dtype=dtype))
        state, info = one_step(sampler, density, u, noise)
        seen = {"u": state[0], "info.value": info.value, "info.grad": info.grad}
        other = [f"{name} is {t.dtype}" for name, t in seen.items() if t is not None and t.dtype != dtype]
        expect(not other, f"{dtype} results from {dtype} u", ", ".join(other), fix)
    rounded = bool((state[0].float().double() == state[0]).all())
    expect(not rounded, "chains in float64 have 53 significant bits", "every coordinate is a float32 number", fix)


def check_declared_draws(sampler: Sampler) -> None:
    """Check that `draws` names all random numbers of a step."""
    unknown = set(sampler.draws) - set(StepNoise._fields)
    expect(
        not unknown,
        f"only names of {StepNoise._fields} in the class attribute `draws`",
        str(sampler.draws),
        "correct the names",
    )
    u = starts()
    try:
        one_step(sampler, target(sampler), u, step_noise(sampler, u))
    except (TypeError, AttributeError) as error:
        fix = 'declare all random numbers that a step uses, such as draws = ("normal", "uniform")'
        expect(False, f"a step uses only the declared draws, {sampler.draws}", f"{type(error).__name__}: {error}", fix)


def check_pure(sampler: Sampler) -> None:
    """Check that a step is a function of density, state and noise, and changes none of them."""
    u, density = starts(), target(sampler)
    noise, state = step_noise(sampler, u), sampler.init(density, u)
    kept = [part.clone() for part in state]
    with torch.no_grad():
        first, _ = sampler.step(density, state, noise)
        first = [part.clone() for part in first]
        sampler.step(density, sampler.init(density, u + 1), step_noise(sampler, u, "other"))
        second, _ = sampler.step(density, state, noise)
    fix = "store nothing on the sampler; put everything that the next step needs into the state; never write in place"
    for before, after in zip(kept, state, strict=True):
        expect_equal("a step does not change its argument `state`", after, before, fix)
    for a, b in zip(second, first, strict=True):
        expect_equal("a repeated step gives the same result", a, b, fix)


def check_no_global_rng(sampler: Sampler) -> None:
    """Check that a chain uses no global generator and repeats with the same noise."""
    with no_global_randomness("the sampler"):
        a, b = (run(sampler, target(sampler), starts(), Noise(0, "chain", dtype=torch.float64), 3).u for _ in range(2))
    expect_equal("equal noise gives equal chains", a, b, "use only the random numbers in StepNoise")


def check_nan_chain(sampler: Sampler) -> None:
    """Check that a chain that starts at NaN changes no bit of the other chains and is counted."""
    u, noise = starts(), Noise(0, "chain", dtype=torch.float64)
    spoiled = u.clone()
    spoiled[1] = math.nan
    clean = run(sampler, target(sampler), u, noise.derive(), 5)
    with_nan = run(sampler, target(sampler), spoiled, noise.derive(), 5)
    keep, fix = [0, *range(2, ROWS)], "compute no sums, norms or statistics over the batch, and do not replace NaN"
    expect_equal("a NaN chain does not change the other chains", with_nan.u[keep], clean.u[keep], fix)
    counted = int(with_nan.nonfinite) - int(clean.nonfinite)
    expect(counted == 1, "the NaN chain stays NaN and is counted as one", f"{counted} counted", fix)


def check_nan_rejected(sampler: Sampler) -> None:
    """Check that an adjusted sampler rejects a proposal with density NaN. Passes for unadjusted samplers."""
    u = starts()
    state, info = one_step(sampler, fitting(sampler, _NaNAway(u)), u, step_noise(sampler, u))
    if info.accepted is None:
        return
    fix = "accept = log(uniform) < log_ratio, which is False for NaN, and select by torch.where"
    expect_equal("u does not change if the proposal has density NaN", state[0], u, fix)
    expect(
        not bool(info.accepted.any()),
        "info.accepted = 0 for a proposal with density NaN",
        str(info.accepted.tolist()),
        fix,
    )
    finite = all(bool(part.isfinite().all()) for part in state)
    expect(finite, "a finite state after a rejected NaN proposal", "NaN in the state", fix)
