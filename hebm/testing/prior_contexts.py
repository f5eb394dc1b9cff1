"""Checks of a prior whose root draws a context. Every check is called with a recipe and a live backbone.

`in_context` makes both from a recipe with a field `root`. A recipe that raises a `HebmError` about contexts passes all
checks.
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
from hebm.testing.promises import ConformanceError, expect, failure
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
    """Run a check; pass if the prior raises a `HebmError` about contexts, and report any other error as a failure."""
    try:
        check(recipe, backbone)
    except ConformanceError:
        raise
    except HebmError as error:
        if "context" not in str(error):
            raise
    except Exception as error:  # the component is anyone's code and may raise anything
        raise failure(
            "a prior that works with a root that draws a context, or a HebmError that mentions contexts",
            f"{type(error).__name__}: {error}",
            "pass the context of the draw or posterior to backbone.latents(u, context); or, in build, raise "
            'ConfigError("this prior does not support contexts") if backbone.layout.context is not None',
        ) from error


def check_context_root(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that the prior tilts the root of its recipe, which draws a context."""
    _try(priors.check_context, recipe, backbone)


def check_context_sample(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that draws are finite and have a context of the layout's shape."""
    _try(prior_draws.check_sample, recipe, backbone)


def check_context_given(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that draws return a given context unchanged."""
    _try(prior_draws.check_given_context, recipe, backbone)


def check_context_tilt(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that the tilt of latents with a context is finite, `(B, E)`."""
    _try(priors.check_tilt, recipe, backbone)


def check_context_density(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that the gradient of the density given a context is that of its value."""
    _try(priors.check_density, recipe, backbone)


def check_context_objective(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that each stage learns from posterior draws with a context."""
    _try(priors.check_objective, recipe, backbone)


def check_context_negative(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that negatives are z = T(u; c) with the positives' contexts c."""
    _try(priors.check_negative, recipe, backbone)


def check_context_chains(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that draws evaluate T in the requested contexts, and objectives in the positives' contexts."""
    _try(_expect_same_contexts, recipe, backbone)


def _expect_same_contexts(recipe: PriorRecipe, backbone: Backbone) -> None:
    prior, twin = built(recipe, backbone)
    context = points(1, math.prod(LAYOUT.context or ()), name="same").expand(ROWS, -1)
    fix = "build densities with at.context, and draw negatives with Request(context=posterior.latents.context)"
    with _contexts(twin, context) as same:
        prior.sample(twin, ROWS, Noise(0, "sample"), Request(context=context))
    _expect_all(same, "draws in a given context evaluate T only in this context", fix)
    for stage in prior.train().stages():
        with _contexts(twin, context) as same:
            _learn(stage, twin, context)
        _expect_all(same, f"the objective of stage {stage.name!r} evaluates T only in the positives' contexts", fix)


@contextmanager
def _contexts(backbone: Backbone, context: Tensor) -> Iterator[list[bool]]:
    """Yield a list with, for each evaluation of T, whether all contexts equal the first row of `context` `(B, C)`."""
    same: list[bool] = []
    with watching(backbone, lambda _, c: same.append(c is not None and all_equal(c, context[:1]))):
        yield same


def _expect_all(same: list[bool], what: str, fix: str) -> None:
    expect(all(same), what, f"{len(same) - sum(same)} of {len(same)} evaluations are in other contexts", fix)


def _learn(stage: Stage, backbone: Backbone, context: Tensor) -> None:
    """Compute a stage's loss on positives that share a context."""
    with torch.no_grad():
        latents = seen_by(stage.module, backbone, points(ROWS, backbone.layout.dim, name="posterior"), context)
    stage.objective(backbone, Posterior(latents.detach()), Noise(0, "objective"), Progress(9, 10))
