"""Check at which u a prior evaluates T while it draws. Every check is called with a recipe and a live backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hebm.fixed import Fixed
from hebm.interfaces import Backbone, LatentLayout, PriorLearner, PriorRecipe, Regenerates, Request, walk
from hebm.latents import Latents
from hebm.noise import Noise
from hebm.testing.prior_subjects import ROWS, built
from hebm.testing.promises import expect
from hebm.testing.subjects import contexts, points

STEPS = 8
"""Steps of each chain, enough that most evaluations are inside the chain, not at its start."""
SPREAD = 2.0
"""Standard deviation of the fixed coordinates."""

See = Callable[[Tensor, Tensor | None], None]
"""A function that receives u and the context of each evaluation of T."""


@contextmanager
def watching(backbone: Backbone, see: See) -> Iterator[None]:
    """Call `see` with u and context of each call of `backbone.latents` inside the block."""
    latents = backbone.latents

    def shown(u: Tensor, context: Tensor | None = None) -> Latents:
        see(u.detach(), None if context is None else context.detach())
        return latents(u, context)

    backbone.__dict__["latents"] = shown
    try:
        yield
    finally:
        del backbone.__dict__["latents"]


def all_equal(part: Tensor, wanted: Tensor) -> bool:
    """Return whether every row of `part` equals `wanted`; True inside `torch.vmap`, which hides values."""
    try:
        return bool(torch.isclose(part, wanted, rtol=1e-6, atol=1e-6).all())
    except RuntimeError:
        return True


def check_fixed_in_chains(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that the last transition that evaluates T does so at the given values of fixed coordinates.

    This finds a chain that moves fixed coordinates even if f hardly depends on them. Up to half of the evaluations may
    be at other values, because a chain may start there. Earlier transitions are not checked. Passes without a density,
    if no transition evaluates T, and for `Regenerates`, which adds noise to fixed coordinates.
    """
    prior, twin = built(recipe, backbone, torch.float64)
    density = prior.density(twin, contexts(twin.layout, ROWS, torch.float64))
    if density is None or isinstance(prior, Regenerates):
        return
    given = SPREAD * points(1, twin.layout.dim, torch.float64, "given").expand(ROWS, -1)
    for fixed in _fixed(twin.layout, given):
        held = _held(prior, twin, fixed)
        expect(
            2 * sum(held) > len(held) or not held,
            "a chain that keeps fixed coordinates at their given values in every step",
            f"{len(held) - sum(held)} of {len(held)} evaluations of T in the last transition are at other values",
            "leave `fixed` of MCMC unset; start other loops at at.fixed_as(request.fixed), and move only the rest",
        )


def _fixed(layout: LatentLayout, u: Tensor) -> tuple[Fixed, ...]:
    """Return u with the top layer fixed, and with all others fixed; every second coordinate of a single layer."""
    if len(layout) == 1:
        return (Fixed(u, torch.arange(layout.dim) % 2 == 0),)
    return layout.fix(u, {0}), layout.fix(u, set(range(1, len(layout))))


def _held(prior: PriorLearner, backbone: Backbone, fixed: Fixed) -> list[bool]:
    """Return for each evaluation of T in the last transition that has any whether fixed coordinates keep their values.

    For a prior that overrides `sample`, return this for all evaluations.
    """
    noise, last, now = Noise(0, "sample", dtype=torch.float64), list[bool](), list[bool]()
    context = contexts(backbone.layout, ROWS, torch.float64)
    request, wanted = Request(context=context, fixed=fixed, steps=STEPS), fixed.u[0, fixed.mask]
    with watching(backbone, lambda u, _: now.append(all_equal(u[..., fixed.mask], wanted))):
        if type(prior).sample is not PriorLearner.sample:
            prior.sample(backbone, ROWS, noise, request)
            return now
        for _ in walk(prior, backbone, ROWS, noise, request):
            last = now.copy() or last
            now.clear()
    return last
