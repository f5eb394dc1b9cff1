"""What a prior promises where its root draws a context. Every check is called with a recipe and a live backbone.

`in_context` makes both from a recipe with a field `root`. A recipe that refuses contexts by a `HebmError` which says so
passes all of these checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import attrs
import torch
from torch import Tensor

from hebm.errors import HebmError
from hebm.interfaces import Backbone, PriorRecipe, Progress, Request, Stage, seen_by
from hebm.latents import LatentLayout, Posterior
from hebm.noise import Noise
from hebm.testing import prior_draws, priors
from hebm.testing.prior_subjects import ROWS, built
from hebm.testing.promises import ConformanceError, promise
from hebm.testing.reference_priors import ContextRoot
from hebm.testing.subjects import SMALL_LAYOUT, ReferenceBackbone, points, seeded
from hebm.testing.watched_priors import all_equal, watching

LAYOUT: LatentLayout = attrs.evolve(SMALL_LAYOUT, context=(3,))


@attrs.frozen
class ContextRoots(PriorRecipe):
    """Builds the root u ~ N(0, I), c ~ N(0, I)."""

    def build(self, backbone: Backbone) -> ContextRoot:
        """Build the root for any layout."""
        return ContextRoot(backbone.layout)


def in_context(recipe: PriorRecipe) -> tuple[PriorRecipe, Backbone] | None:
    """Return a recipe on a root that draws a context, and a small backbone with one; None without a field `root`."""
    kind: Any = type(recipe)
    if not attrs.has(kind) or not isinstance(getattr(recipe, "root", None), PriorRecipe):
        return None
    if "root" not in attrs.fields_dict(kind):
        return None
    evolved: PriorRecipe = attrs.evolve(cast(Any, recipe), root=ContextRoots())
    return evolved, seeded(lambda: ReferenceBackbone(LAYOUT))


def _try(check: Callable[[PriorRecipe, Backbone], None], recipe: PriorRecipe, backbone: Backbone) -> None:
    """Run a check; report what is raised as a context that was not expected, unless the prior refuses contexts."""
    try:
        check(recipe, backbone)
    except ConformanceError:
        raise
    except HebmError as error:
        if "context" not in str(error):
            raise
    except Exception as error:  # the component is anyone's code and may raise anything
        raise ConformanceError(
            "promised: a prior whose root draws a context works, or is refused by an error that says so\n"
            f"    seen: {type(error).__name__}: {error}\n"
            "    fix: pass the draw's or posterior's context on, backbone.latents(u, context); or raise a ConfigError "
            'in the recipe\'s build where backbone.layout.context is not None: "this prior does not support contexts"'
        ) from error


def check_context_root(recipe: PriorRecipe, backbone: Backbone) -> None:
    """The prior tilts the root of its recipe, which draws a context."""
    _try(priors.check_context, recipe, backbone)


def check_context_sample(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Draws have the context that the root drew."""
    _try(prior_draws.check_sample, recipe, backbone)


def check_context_given(recipe: PriorRecipe, backbone: Backbone) -> None:
    """A given context comes back as given."""
    _try(prior_draws.check_given_context, recipe, backbone)


def check_context_tilt(recipe: PriorRecipe, backbone: Backbone) -> None:
    """The tilt of latents with a context is finite, `(B, E)`."""
    _try(priors.check_tilt, recipe, backbone)


def check_context_density(recipe: PriorRecipe, backbone: Backbone) -> None:
    """The gradient of the density given a context is that of its value."""
    _try(priors.check_density, recipe, backbone)


def check_context_objective(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Each stage learns from posterior draws with a context."""
    _try(priors.check_objective, recipe, backbone)


def check_context_negative(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Negatives have z = T(u; c) with the positives' contexts c."""
    _try(priors.check_negative, recipe, backbone)


def check_context_chains(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Draws and negatives are made in the contexts they belong to: those of the request, and of the positives."""
    _try(_expect_same_contexts, recipe, backbone)


def _expect_same_contexts(recipe: PriorRecipe, backbone: Backbone) -> None:
    prior, twin = built(recipe, backbone)
    context = points(1, math.prod(LAYOUT.context or ()), name="same").expand(ROWS, -1)
    fix = "build densities with at.context; draw negatives given Request(context=posterior.latents.context)"
    with _contexts(twin, context) as same:
        prior.sample(twin, ROWS, Noise(0, "sample"), Request(context=context))
    _expect_all(same, "draws given a context evaluate T in it alone", fix)
    for stage in prior.train().stages():
        with _contexts(twin, context) as same:
            _learn(stage, twin, context)
        _expect_all(same, f"the objective of stage {stage.name!r} evaluates T in the positives' contexts alone", fix)


@contextmanager
def _contexts(backbone: Backbone, context: Tensor) -> Iterator[list[bool]]:
    """Yield a list which tells of each evaluation of T whether all its contexts are the one of `context` `(B, C)`."""
    same: list[bool] = []
    with watching(backbone, lambda _, c: same.append(c is not None and all_equal(c, context[:1]))):
        yield same


def _expect_all(same: list[bool], what: str, fix: str) -> None:
    promise(all(same), what, f"{len(same) - sum(same)} of {len(same)} evaluations in others", fix)


def _learn(stage: Stage, backbone: Backbone, context: Tensor) -> None:
    """Compute a stage's loss on positives that share a context."""
    with torch.no_grad():
        latents = seen_by(stage.module, backbone, points(ROWS, backbone.layout.dim, name="posterior"), context)
    stage.objective(backbone, Posterior(latents.detach()), Noise(0, "objective"), Progress(9, 10))
