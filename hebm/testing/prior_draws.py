"""What the draws of a prior promise. Every check is called with a recipe and a live backbone (float32)."""

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
    expect_close,
    expect_equal,
    expect_finite,
    expect_shape,
    no_global_randomness,
    promise,
)
from hebm.testing.subjects import PoisonedNoise, contexts, points
from hebm.transitions import ROOT, path_to
from hebm.walking import walk


def check_sample(recipe: PriorRecipe, backbone: Backbone) -> None:
    """`sample(backbone, n, noise)` gives finite u `(n, D)` in the noise's type, and the layout's context."""
    for dtype in (torch.float32, torch.float64):
        prior, twin = built(recipe, backbone, dtype)
        for steps in (None, 0, 1):
            draw = prior.sample(twin, ROWS, Noise(0, "sample", dtype=dtype), Request(steps=steps))
            fix = "return Draw(u, context) with one row per sample"
            expect_shape("u", draw.u, (ROWS, twin.layout.dim), fix)
            promise(draw.u.dtype == dtype, f"u of type {dtype}", str(draw.u.dtype), "make tensors in the noise's dtype")
            promise(not draw.u.requires_grad, "u holds no graph", "it requires gradients", "draw under torch.no_grad()")
            expect_finite("u", draw.u, "take a smaller step, or bound the tilt")
            _expect_context(draw, twin)


def _expect_context(draw: Draw, backbone: Backbone) -> None:
    shape = backbone.layout.context
    fix = "keep the context that the root drew: at.moved(u)"
    if shape is None:
        promise(draw.context is None, "no context, as the layout says", "a context", fix)
    else:
        expect_shape("the draw's context", draw.context, (len(draw.u), *shape), fix)


def check_rows(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Sample i is a function of (noise key, i): rows 64 to 127 drawn alone are those of the whole."""
    prior, twin = built(recipe, backbone, torch.float64)
    noise = Noise(0, "sample", dtype=torch.float64)
    whole = prior.sample(twin, 2 * BLOCK, noise.derive("a")).u
    again = prior.sample(twin, 2 * BLOCK, noise.derive("a")).u
    second = prior.sample(twin, BLOCK, noise.derive("a").at(BLOCK)).u
    other = prior.sample(twin, 2 * BLOCK, noise.derive("b")).u
    fix = "take every random number from noise, rows being samples; use noise.derive for parts, never a new Noise"
    expect_equal("the same key gives the same samples", again, whole, fix)
    expect_close("rows 64..127 alone are those of the whole", second, whole[BLOCK:], 1e-4, fix)
    promise(not torch.equal(other, whole), "another key gives other samples", "the same", fix)


def check_nan_start(recipe: PriorRecipe, backbone: Backbone) -> None:
    """A chain that is NaN from its start leaves every other chain unchanged bit for bit."""
    prior, twin = built(recipe, backbone)
    clean = prior.sample(twin, ROWS, Noise(0, "sample")).u
    poisoned = prior.sample(twin, ROWS, PoisonedNoise(0, "sample")).u
    keep = [i for i in range(ROWS) if i != PoisonedNoise.row]
    fix = "no sums, norms or statistics over the batch in a chain"
    expect_equal("a NaN chain leaves the others unchanged", poisoned[keep], clean[keep], fix)


def check_observe(recipe: PriorRecipe, backbone: Backbone) -> None:
    """An observer changes no sample."""
    prior, twin = built(recipe, backbone)
    seen: list[Tensor] = []
    watched = prior.sample(
        twin, ROWS, Noise(0, "sample"), Request(observe=lambda name, step, state, info: seen.append(state[0]))
    ).u
    plain = prior.sample(twin, ROWS, Noise(0, "sample")).u
    expect_equal("samples are the same when observed", watched, plain, "pass observe on to hebm.sampling.run")
    fix = "an observer sees u (n, D) as the state's first field"
    for u in seen[:1]:
        expect_shape("the observed state", u, (ROWS, twin.layout.dim), fix)


def check_given_context(recipe: PriorRecipe, backbone: Backbone) -> None:
    """A given context comes back as given, and decides nothing else of the noise. Passes without a context."""
    prior, twin = built(recipe, backbone)
    given = contexts(twin.layout, ROWS)
    if given is None:
        return
    fix = "return request.context where there is one; draw a context only where none is given"
    draw, again = (prior.sample(twin, ROWS, Noise(0, "sample"), Request(context=given)) for _ in range(2))
    expect_shape("the draw's context", given if draw.context is None else draw.context, tuple(given.shape), fix)
    promise(draw.context is not None, "the draw has its context", "it has none", fix)
    expect_equal("the context is the one that was given", given if draw.context is None else draw.context, given, fix)
    expect_finite("u", draw.u, fix)
    expect_equal("the same key and context give the same draw", again.u, draw.u, fix)


def check_fixed(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Fixed coordinates come back as given; the others are drawn."""
    prior, twin = built(recipe, backbone)
    given = points(ROWS, twin.layout.dim, name="fixed")
    fixed = twin.layout.fix(given, {0})
    u = prior.sample(twin, ROWS, Noise(0, "sample"), Request(fixed=fixed)).u
    other = prior.sample(twin, ROWS, Noise(1, "sample"), Request(fixed=fixed)).u
    fix = "use MCMC transitions, or return Draw(...).fixed_as(request.fixed)"
    expect_equal("fixed coordinates are as given", u[:, fixed.mask], given[:, fixed.mask], fix)
    if not fixed.everything:
        free = fixed.free(u)
        promise(not torch.equal(free, fixed.free(given)), "the others are drawn", "they are as given too", fix)
        promise(not torch.equal(free, fixed.free(other)), "the others follow the noise", "the same for two keys", fix)


def check_request(recipe: PriorRecipe, backbone: Backbone) -> None:
    """A request for 0 steps and 1 start proposal leaves a draw where each move with such a number starts.

    Where chains start at another prior, that one proposal is a draw of it. Passes for a prior with particles, which are
    resampled all the same.
    """
    prior, twin = built(recipe, backbone)
    if prior.root is None or prior.population.count > 1:
        return
    path, request = path_to(prior.transitions(twin)), Request(steps=0, start_proposals=1)
    walked = list(walk(prior, twin, ROWS, Noise(0, "sample"), request, path))
    for transition, (_, before), (name, after) in zip(path, walked, walked[1:], strict=False):
        if transition.length or (transition.start_proposals and prior.start is None):
            fix = "make request.steps steps, and choose among request.start_proposals draws, where they are not None"
            expect_equal(f"u after {name!r} is u before it", after.u, before.u, fix)


def check_transitions(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Transitions have names and noise keys of their own, listing them draws nothing, and a draw may stop after each.

    Without an override, `density` is f(T(u)) − |u|²/2: then every chain is on such a density.
    """
    prior, twin = built(recipe, backbone)
    with no_global_randomness("listing transitions"):
        path = prior.transitions(twin)
    if prior.root is None:
        promise(not path, "a root without transitions", f"{len(path)} of them", "override sample, or set self.root")
        return
    names = [transition.name for transition in path]
    unique = len({*names, ROOT}) == len(names) + 1 and all(names)
    promise(unique, f'unique names, none of them "{ROOT}"', str(names), "number them: stage 1, stage 2, ...")
    for end in (transition.name for transition in path):
        keys = [getattr(transition, "key", transition.name) for transition in path_to(path, end)]
        fix = "give each transition a key of its own: two with one key draw the same numbers"
        promise(len(set(keys)) == len(keys), "unique keys of noise", str(keys), fix)
        draw = prior.sample(twin, ROWS, Noise(0, "sample"), Request(after=end))
        expect_shape(f"u after {end!r}", draw.u, (ROWS, twin.layout.dim), "move every row of the draw")
    _expect_own_density(prior, twin)


def check_planned_transitions(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Before training, `planned_transitions` lists the transitions that the trained prior has."""
    untrained, _ = built(recipe, backbone, started=0)
    trained, twin = built(recipe, backbone)
    planned, listed = (
        [transition.name for transition in found]
        for found in (untrained.planned_transitions(twin), trained.transitions(twin))
    )
    fix = "override planned_transitions: list the transitions of all stages, trained or not"
    promise(planned == listed, f"planned transitions {listed}, as after training", str(planned), fix)


def _expect_own_density(prior: PriorLearner, backbone: Backbone) -> None:
    if type(prior).density is not PriorLearner.density:
        return
    start = root_of(prior).sample(backbone, ROWS, Noise(0, "start"), Request(context=contexts(backbone.layout, ROWS)))
    chains = [transition for transition in prior.transitions(backbone) if isinstance(transition, MCMC)]
    other = [chain.name for chain in chains if not isinstance(chain.density(start, Request()), TiltedPrior)]
    fix = "override density: return the prior's own log density, or None where it has none"
    promise(not other, "chains on f(T(u)) - |u|^2/2, as the inherited density says", f"others: {other}", fix)
