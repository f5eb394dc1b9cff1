"""Checks of the draws of a prior. Every check is called with a recipe and a live backbone (float32)."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.interfaces import (
    MCMC,
    Backbone,
    Draw,
    PriorLearner,
    PriorRecipe,
    Request,
    TiltedPrior,
    root_of,
)
from hebm.noise import Noise
from hebm.testing.prior_subjects import BLOCK, ROWS, built
from hebm.testing.promises import (
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    expect_shape,
    no_global_randomness,
)
from hebm.testing.subjects import PoisonedNoise, contexts, points
from hebm.transitions import ROOT, path_to
from hebm.walking import walk


def check_sample(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that `sample(backbone, n, noise)` returns finite u `(n, D)` in the noise's dtype, and the context."""
    for dtype in (torch.float32, torch.float64):
        prior, twin = built(recipe, backbone, dtype)
        for steps in (None, 0, 1):
            draw = prior.sample(twin, ROWS, Noise(0, "sample", dtype=dtype), Request(steps=steps))
            fix = "return Draw(u, context) with one row per sample"
            expect_shape("u", draw.u, (ROWS, twin.layout.dim), fix)
            expect(
                draw.u.dtype == dtype,
                f"u of dtype {dtype}",
                str(draw.u.dtype),
                "create tensors with the dtype of the noise",
            )
            expect(not draw.u.requires_grad, "u without a graph", "u requires gradients", "draw under torch.no_grad()")
            expect_finite("u", draw.u, "use a smaller step size, or bound the tilt")
            _expect_context(draw, twin)


def _expect_context(draw: Draw, backbone: Backbone) -> None:
    shape = backbone.layout.context
    fix = "keep the context that the root drew, by at.moved(u)"
    if shape is None:
        expect(draw.context is None, "no context, as the layout says", "a draw with a context", fix)
    else:
        expect_shape("the draw's context", draw.context, (len(draw.u), *shape), fix)


def check_rows(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that sample i depends only on the noise key and i: rows 64 to 127 drawn alone equal those of 128."""
    prior, twin = built(recipe, backbone, torch.float64)
    noise = Noise(0, "sample", dtype=torch.float64)
    whole = prior.sample(twin, 2 * BLOCK, noise.derive("a")).u
    again = prior.sample(twin, 2 * BLOCK, noise.derive("a")).u
    second = prior.sample(twin, BLOCK, noise.derive("a").at(BLOCK)).u
    other = prior.sample(twin, 2 * BLOCK, noise.derive("b")).u
    fix = "take all random numbers from noise, one row per sample; use noise.derive for parts, never a new Noise"
    expect_equal("the same key gives the same samples", again, whole, fix)
    expect_close("rows 64 to 127 drawn alone equal those rows of 128", second, whole[BLOCK:], 1e-4, fix)
    expect(not torch.equal(other, whole), "different noise keys give different samples", "equal samples", fix)


def check_nan_start(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a chain that starts at NaN changes no bit of the other chains."""
    prior, twin = built(recipe, backbone)
    clean = prior.sample(twin, ROWS, Noise(0, "sample")).u
    poisoned = prior.sample(twin, ROWS, PoisonedNoise(0, "sample")).u
    keep = [i for i in range(ROWS) if i != PoisonedNoise.row]
    fix = "in a chain, compute no sums, norms or statistics over the batch"
    expect_equal("a NaN chain does not change the other chains", poisoned[keep], clean[keep], fix)


def check_observe(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that an observer changes no sample."""
    prior, twin = built(recipe, backbone)
    seen: list[Tensor] = []
    watched = prior.sample(
        twin, ROWS, Noise(0, "sample"), Request(observe=lambda name, step, state, info: seen.append(state[0]))
    ).u
    plain = prior.sample(twin, ROWS, Noise(0, "sample")).u
    expect_equal("samples are the same with an observer", watched, plain, "pass request.observe to hebm.sampling.run")
    fix = "pass the observer a state whose first field is u (n, D)"
    for u in seen[:1]:
        expect_shape("the observed state", u, (ROWS, twin.layout.dim), fix)


def check_given_context(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that the draw returns a given context unchanged and is a function of the noise key and the context.

    Passes for a layout without a context.
    """
    prior, twin = built(recipe, backbone)
    given = contexts(twin.layout, ROWS)
    if given is None:
        return
    fix = "return request.context if it is not None, and draw a context only otherwise"
    draw, again = (prior.sample(twin, ROWS, Noise(0, "sample"), Request(context=given)) for _ in range(2))
    expect_shape("the draw's context", given if draw.context is None else draw.context, tuple(given.shape), fix)
    expect(draw.context is not None, "a draw with the given context", "a draw without a context", fix)
    expect_equal("the draw's context equals the given one", given if draw.context is None else draw.context, given, fix)
    expect_finite("u", draw.u, fix)
    expect_equal("the same key and context give the same draw", again.u, draw.u, fix)


def check_fixed(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that fixed coordinates keep their given values and that the others are drawn."""
    prior, twin = built(recipe, backbone)
    given = points(ROWS, twin.layout.dim, name="fixed")
    fixed = twin.layout.fix(given, {0})
    u = prior.sample(twin, ROWS, Noise(0, "sample"), Request(fixed=fixed)).u
    other = prior.sample(twin, ROWS, Noise(1, "sample"), Request(fixed=fixed)).u
    fix = "use MCMC transitions, or return Draw(…).fixed_as(request.fixed)"
    expect_equal("fixed coordinates keep their given values", u[:, fixed.mask], given[:, fixed.mask], fix)
    if not fixed.everything:
        free = fixed.free(u)
        expect(
            not torch.equal(free, fixed.free(given)),
            "the other coordinates are drawn",
            "they keep their given values, too",
            fix,
        )
        expect(
            not torch.equal(free, fixed.free(other)),
            "different noise keys give different free coordinates",
            "equal ones",
            fix,
        )


def check_request(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a request with 0 steps and 1 start proposal moves no chain.

    Each transition that makes steps or chooses among start proposals must end where it starts. Proposals are not
    checked if chains start at another prior, because the only proposal is a draw of that prior. Passes for a root, and
    for a prior with particles, which are resampled even then.
    """
    prior, twin = built(recipe, backbone)
    if prior.root is None or prior.population.count > 1:
        return
    path, request = path_to(prior.transitions(twin)), Request(steps=0, start_proposals=1)
    walked = list(walk(prior, twin, ROWS, Noise(0, "sample"), request, path))
    for transition, (_, before), (name, after) in zip(path, walked, walked[1:], strict=False):
        if transition.length or (transition.start_proposals and prior.start is None):
            fix = "if they are not None, make request.steps steps, and choose among request.start_proposals draws"
            expect_equal(f"u after transition {name!r} equals u before it", after.u, before.u, fix)


def check_transitions(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that transitions have unique names and noise keys, draw nothing when listed, and can each end a draw.

    If the prior inherits `density`, f(T(u)) − |u|²/2, every chain must sample a density of this form.
    """
    prior, twin = built(recipe, backbone)
    with no_global_randomness("listing transitions"):
        path = prior.transitions(twin)
    if prior.root is None:
        expect(
            not path,
            "a root without transitions",
            f"{len(path)} transitions",
            "set self.root, or override sample instead",
        )
        return
    names = [transition.name for transition in path]
    unique = len({*names, ROOT}) == len(names) + 1 and all(names)
    expect(
        unique,
        f'transitions with unique names, none of them "{ROOT}"',
        str(names),
        "number the transitions: stage 1, stage 2, …",
    )
    for end in (transition.name for transition in path):
        keys = [getattr(transition, "key", transition.name) for transition in path_to(path, end)]
        fix = "give each transition a unique `key`; transitions with equal keys draw the same numbers"
        expect(len(set(keys)) == len(keys), "transitions with unique noise keys", str(keys), fix)
        draw = prior.sample(twin, ROWS, Noise(0, "sample"), Request(after=end))
        expect_shape(
            f"u after {end!r}", draw.u, (ROWS, twin.layout.dim), "return all rows of the draw from the transition"
        )
    _expect_own_density(prior, twin)


def check_planned_transitions(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that `planned_transitions` names, before training, the transitions of the trained prior."""
    untrained, _ = built(recipe, backbone, started=0)
    trained, twin = built(recipe, backbone)
    planned, listed = (
        [transition.name for transition in found]
        for found in (untrained.planned_transitions(twin), trained.transitions(twin))
    )
    fix = "override planned_transitions, and list the transitions of all stages, trained or not"
    expect(planned == listed, f"planned_transitions = {listed}, the transitions after training", str(planned), fix)


def _expect_own_density(prior: PriorLearner, backbone: Backbone) -> None:
    if type(prior).density is not PriorLearner.density:
        return
    start = root_of(prior).sample(backbone, ROWS, Noise(0, "start"), Request(context=contexts(backbone.layout, ROWS)))
    chains = [transition for transition in prior.transitions(backbone) if isinstance(transition, MCMC)]
    other = [chain.name for chain in chains if not isinstance(chain.density(start, Request()), TiltedPrior)]
    fix = "override density, and return the prior's log density, or None if it has no density"
    expect(
        not other,
        "chains that sample f(T(u)) - |u|^2/2, the inherited density",
        f"transitions {other} sample another one",
        fix,
    )
