"""Where a prior evaluates the generator while it draws. Every check is called with a recipe and a live backbone."""

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
from hebm.testing.promises import promise
from hebm.testing.subjects import contexts, points

STEPS = 8
"""Steps of each chain: most evaluations are inside chains, few at their starts."""
SPREAD = 2.0
"""Standard deviation of the fixed coordinates."""

See = Callable[[Tensor, Tensor | None], None]
"""Called with u and the context of each evaluation of T."""


@contextmanager
def watching(backbone: Backbone, see: See) -> Iterator[None]:
    """Inside, `see` is shown u and context of each call of `backbone.latents`."""
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
    """Return whether every row of `part` is `wanted`; True inside `torch.vmap`, where no value can be read."""
    try:
        return bool(torch.isclose(part, wanted, rtol=1e-6, atol=1e-6).all())
    except RuntimeError:
        return True


def check_fixed_in_chains(recipe: PriorRecipe, backbone: Backbone) -> None:
    """The transition that ends a draw evaluates T with the fixed coordinates at their given values.

    However weakly f couples layers, a chain that moves fixed coordinates is seen. At most half of the evaluations may
    be elsewhere (at the chain's start), and transitions before the last one may have other values. Passes without a
    density and for `Regenerates`, whose levels add noise to fixed coordinates, and where no transition evaluates T.
    """
    prior, twin = built(recipe, backbone, torch.float64)
    density = prior.density(twin, contexts(twin.layout, ROWS, torch.float64))
    if density is None or isinstance(prior, Regenerates):
        return
    given = SPREAD * points(1, twin.layout.dim, torch.float64, "given").expand(ROWS, -1)
    for fixed in _fixed(twin.layout, given):
        held = _held(prior, twin, fixed)
        promise(
            2 * sum(held) > len(held) or not held,
            "a chain that is given fixed coordinates keeps them at their values at each of its steps",
            f"{len(held) - sum(held)} of the last transition's {len(held)} evaluations of T at other values",
            "leave `fixed` of MCMC out; a loop of your own starts at at.fixed_as(request.fixed), and moves the rest",
        )


def _fixed(layout: LatentLayout, u: Tensor) -> tuple[Fixed, ...]:
    """Return the top layer fixed, and all others; of a single layer, every second coordinate."""
    if len(layout) == 1:
        return (Fixed(u, torch.arange(layout.dim) % 2 == 0),)
    return layout.fix(u, {0}), layout.fix(u, set(range(1, len(layout))))


def _held(prior: PriorLearner, backbone: Backbone, fixed: Fixed) -> list[bool]:
    """Return of each evaluation in the last transition that has any whether fixed coordinates are as given.

    All evaluations count for a prior that overrides `sample`.
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
