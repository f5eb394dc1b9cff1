"""Check that a prior's draws follow its density. Every check is called with a recipe and a live backbone (float32).

`hebm.testing.stein` has the test, and `hebm.testing.long_chains` makes the priors and draws.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hebm.densities import Conditioned, LogDensity
from hebm.fixed import Fixed
from hebm.interfaces import (
    MCMC,
    Backbone,
    Draw,
    Normalised,
    PriorLearner,
    PriorRecipe,
    Request,
    root_of,
    tilt_of,
)
from hebm.noise import Noise
from hebm.testing.long_chains import ROWS, STEPS, lively, long_draws, paced, start
from hebm.testing.prior_subjects import built
from hebm.testing.promises import expect, failure
from hebm.testing.stein import BOUND, Subject, expect_follows, standard_errors
from hebm.testing.subjects import contexts, points

SPREAD = 2.0
"""Standard deviation of fixed coordinates, large enough that their effect is visible."""
FEW, STEP = 9, 1e-5
"""Rows whose gradient is compared with finite differences, and the step in standard deviations."""


def check_root_draws(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that the root draws u ~ N(0, I) in any context."""
    prior, twin = built(recipe, backbone, torch.float64)
    rows, dim = 4 * ROWS, twin.layout.dim
    given = Request(context=contexts(twin.layout, rows, torch.float64))
    u = root_of(prior).sample(twin, rows, Noise(0, "root", dtype=torch.float64), given).u
    normal = Subject(lambda at: -at, torch.arange(dim))
    expect_follows(
        "the root's draws", u, normal, "return noise.normal(n, D), and put learned parts into a tilt f(T(u))"
    )


def _with_density(recipe: PriorRecipe, backbone: Backbone) -> tuple[PriorLearner, Backbone, LogDensity] | None:
    """Return a prior with a visible tilt, its backbone and its density; None if one of them does not exist."""
    found = lively(recipe, backbone)
    density = None if found is None else found[0].density(found[1], contexts(found[1].layout, ROWS, torch.float64))
    return None if found is None or density is None else (*found, density)


def check_log_z(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that E[exp(f(T(u)) − log Z)] = 1 for u ~ N(0, I), where f is the tilt and log Z that of `Normalised`.

    Passes for priors of which log Z is not known.
    """
    found = lively(recipe, backbone)
    if found is None or not isinstance(found[0], Normalised):
        return
    prior, twin = found
    known, rows, tilt = found[0].log_z, 8 * ROWS, tilt_of(prior)
    if tilt is None:
        raise failure("a prior with `log_z` has a tilt", "no method `tilt`", "add `tilt`, or remove `log_z`")
    u, context = points(rows, twin.layout.dim, torch.float64, "log-z"), contexts(twin.layout, rows, torch.float64)
    with torch.no_grad():
        f = tilt.at(twin, twin.latents(u, context)).sum(1)
    off = standard_errors((f - known).exp().unsqueeze(1) - 1)
    expect(
        off <= BOUND,
        f"E[exp(f - log Z)] = 1 over draws of N(0, I), within {BOUND:g} standard errors",
        f"a mean that is {off:.1f} standard errors of {rows} draws away from 1",
        "return log E[exp f] from log_z, with the sum of all columns of tilt() as f",
    )


def check_draws(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that draws follow `density`.

    The coordinates that the last transition moved are tested given the others. Passes if the prior has no density.
    """
    found = _with_density(recipe, backbone)
    if found is None:
        return
    prior, twin, density = found
    moved, draw = long_draws(prior, twin)
    fix = "let the chain sample density(), with the sign of f of tilt(); if draws have no density, return None"
    expect_follows("draws by long chains", draw.u, Subject.of(density, moved), fix)


def check_draws_given_layers(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that draws of the top layer given all other layers follow `density`.

    Passes if the prior has no density, or the layout one layer.
    """
    found, layers = _with_density(recipe, backbone), set(range(len(backbone.layout)))
    if found is None or len(layers) == 1:
        return
    prior, twin, density = found
    fixed = twin.layout.fix(SPREAD * points(ROWS, twin.layout.dim, torch.float64, "given"), layers - {0})
    _, draw = long_draws(prior, twin, Request(fixed=fixed))
    fix = "condition on request.fixed by MCMC transitions, whose chains move only the free coordinates"
    expect_follows("draws of the top layer given the others", draw.u, Subject.of(density, ~fixed.mask), fix)


def check_transition_draws(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that each chain follows its own density, given its start and its fixed coordinates.

    Passes if no transition is a chain.
    """
    found = lively(recipe, backbone)
    if found is None:
        return
    prior, twin = found
    at = start(twin, ROWS)
    for transition in _conditionals(prior, twin):
        for request in _requests(prior, twin):
            moved = paced(transition).move(at, Noise(0, "move", dtype=torch.float64), request).u
            fixed = transition.fixed(at, Noise(0, "move", dtype=torch.float64), request.fixed)
            free = torch.ones(twin.layout.dim, dtype=torch.bool) if fixed is None else ~fixed.mask
            density, other = transition.density(at, request), transition.density(_next_rows(at), request)
            fix = "sample the transition's density(at, request), and return its gradient from value_and_grad"
            what = f"draws by a long chain of transition {transition.name!r}"
            expect_follows(what, moved, Subject.of(density, free, other), fix)


def _requests(prior: PriorLearner, backbone: Backbone) -> Iterator[Request]:
    """Yield a default request and, for a prior without a density, one that fixes the top layer."""
    yield Request(steps=STEPS)
    if prior.density(backbone) is None and len(backbone.layout) > 1:
        given = points(ROWS, backbone.layout.dim, torch.float64, "given")
        yield Request(steps=STEPS, fixed=backbone.layout.fix(given, {0}))


def _conditionals(prior: PriorLearner, backbone: Backbone) -> tuple[MCMC, ...]:
    """Return the chains of a prior, except chains of all coordinates if it has a density; `check_draws` tests those."""
    path = prior.transitions(backbone)
    chains = tuple(transition for transition in path if isinstance(transition, MCMC))
    return () if prior.density(backbone) is not None and _whole(chains, backbone) else chains


def _whole(chains: tuple[MCMC, ...], backbone: Backbone) -> bool:
    """Return whether every chain moves all coordinates."""
    at, noise = start(backbone, FEW), Noise(0, "move", dtype=torch.float64)
    return all(chain.fixed(at, noise, None) is None for chain in chains)


def _next_rows(at: Draw) -> Draw:
    return Draw(at.u.roll(1, 0), at.context)


def check_transition_densities(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check the gradient of each chain's density, and that conditionals depend on where they start.

    A chain is a conditional if the prior has no `density`, or if it keeps some coordinates fixed. Passes if no
    transition is a chain.
    """
    prior, twin = built(recipe, backbone, torch.float64)
    at, request = start(twin, FEW), Request()
    listed = prior.transitions(twin)
    for k, transition in enumerate(listed):
        if not isinstance(transition, MCMC):
            continue
        fixed = transition.fixed(at, Noise(0, "move", dtype=torch.float64), None)
        here = _target(transition.density(at, request), fixed)
        u = at.u if fixed is None else fixed.free(at.u)
        _expect_gradient(transition.name, here, u)
        if k and _coupled(prior.density(twin, at.context), fixed, at):
            _expect_depends(transition, at, here, u)


def _coupled(whole: LogDensity | None, fixed: Fixed | None, at: Draw) -> bool:
    """Return whether a chain is a conditional of a density that couples layers, so that it must depend on its start."""
    if whole is None or fixed is None:
        return whole is None
    u, elsewhere = fixed.free(at.u), fixed.moved(_next_rows(at).u)
    grads = [Conditioned(whole, each).value_and_grad(u).grad for each in (fixed, elsewhere)]
    return not torch.equal(*grads)


def _target(density: LogDensity, fixed: Fixed | None) -> LogDensity:
    return density if fixed is None else Conditioned(density, fixed)


def _expect_gradient(name: str, density: LogDensity, u: Tensor) -> None:
    """Raise unless most rows agree; a rectifier may switch between two points."""
    std = 1.0 if (factor := density.factor()) is None else factor.std
    direction = std * points(len(u), u.shape[1], torch.float64, "direction")
    ends = [density.value_and_grad(u + sign * STEP * direction).value for sign in (1, -1)]
    wanted = (ends[0] - ends[1]) / (2 * STEP)
    off = float(((density.value_and_grad(u).grad * direction).sum(1) - wanted).abs().median())
    allowed = 1e-4 * (1 + float(wanted.abs().median()))
    expect(
        off <= allowed,
        f"the gradient of the density of transition {name!r} equals the finite difference",
        f"a difference of at least {off:.3g} in half of the rows, allowed {allowed:.3g}",
        "return a value and its gradient from gaussian(), and keep remainder() differentiable in u",
    )


def _expect_depends(transition: MCMC, at: Draw, here: LogDensity, u: Tensor) -> None:
    """Raise unless the density of the free coordinates changes with the start."""
    elsewhere = _next_rows(at)
    fixed = transition.fixed(elsewhere, Noise(0, "move", dtype=torch.float64), None)
    there = _target(transition.density(elsewhere, Request()), fixed)
    same = (here.value_and_grad(u).grad == there.value_and_grad(u).grad).all(1)
    expect(
        not bool(same.any()),
        f"the density of transition {transition.name!r} depends on where the transition before it ended",
        f"equal gradients in {int(same.sum())} of {len(u)} rows for different starts",
        "use at.u in density(at, request), or keep other layers fixed; return the prior's density from density()",
    )
