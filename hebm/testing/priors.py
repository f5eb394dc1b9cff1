"""Checks of a prior's losses, stages, tilt and density.

Every check is called with a recipe and a live backbone (float32).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hebm import interfaces
from hebm.errors import ConfigError
from hebm.interfaces import (
    Backbone,
    Loss,
    PriorLearner,
    PriorRecipe,
    Progress,
    Stage,
    Tilts,
    tilt_of,
)
from hebm.noise import Noise
from hebm.testing.modules import expect_deepcopy, expect_seeded_build, expect_state_dict
from hebm.testing.prior_subjects import ROWS, built, posterior_of
from hebm.testing.promises import (
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    expect_gradients,
    expect_shape,
    failure,
    no_global_randomness,
)
from hebm.testing.subjects import contexts, points


def _loss(stage: Stage, backbone: Backbone) -> Loss:
    return stage.objective(backbone, posterior_of(backbone, stage.module), Noise(0, "objective"), Progress(9, 10))


def check_objective(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that each stage's loss is a finite scalar with a gradient in all its parameters.

    Parameters of the backbone must get a gradient only from stages with `with_backbone`.
    """
    prior, twin = built(recipe, backbone)
    for stage in prior.train().stages():
        with no_global_randomness(f"the objective of stage {stage.name!r}"):
            loss = _loss(stage, twin)
        expect_shape("loss.total", loss.total, (), "average over the batch")
        expect_finite("loss.total", loss.total, "bound the tilt f")
        what = f"the loss of stage {stage.name!r} has a gradient in all its parameters"
        expect_gradients(loss.total, stage.module.named_parameters(), what, "use or remove them", nonzero=False)
        attached = [name for name, term in loss.terms.items() if term.requires_grad or term.ndim]
        expect(
            not attached,
            "terms that are detached scalars",
            f"attached or not scalar: {', '.join(attached)}",
            "use term.detach()",
        )
        if not stage.with_backbone:
            _expect_backbone_untouched(loss, twin)


def _expect_backbone_untouched(loss: Loss, backbone: Backbone) -> None:
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss.total, parameters, allow_unused=True, retain_graph=True) if parameters else ()
    reached = sum(g is not None for g in grads)
    fix = "detach the results of the backbone: backbone.latents(u, context).detach()"
    expect(reached == 0, "a loss without a gradient in the backbone", f"a gradient in {reached} of its parameters", fix)


def check_negative(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that `loss.negative` is detached latents `(B, D)` with z = T(u) in the positives' contexts.

    Passes if the loss has no negatives.
    """
    prior, twin = built(recipe, backbone)
    for stage in prior.stages():
        negative = _loss(stage, twin).negative
        if negative is None:
            continue
        expect_shape("negative.u", negative.u, (ROWS, twin.layout.dim), "return one negative per positive")
        expect(not negative.flat_z.requires_grad, "detached negatives", "they require gradients", "call .detach()")
        with torch.no_grad():
            again = twin.latents(negative.u, posterior_of(twin, prior).latents.context)
        fix = "return negative = backbone.latents(u, posterior.latents.context).detach()"
        expect_close("z = T(u) for the negatives", negative.flat_z, again.flat_z, 1e-4, fix)


def check_abilities(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a prior with one member of `TakesLabels` or `DrawsContext` has all its members."""
    prior, _ = built(recipe, backbone)
    for ability in (interfaces.TakesLabels, interfaces.DrawsContext):
        members = [name for name in vars(ability) if not name.startswith("_")]
        lacking = [name for name in members if not hasattr(prior, name)]
        whole = len(lacking) in (0, len(members))
        what = f"all members of {ability.__name__} ({', '.join(members)}), or none of them"
        expect(
            whole,
            what,
            f"{', '.join(lacking)} is missing",
            "add the missing members; hebm/interfaces.py describes them",
        )


def check_stages(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that stages have unique names, train modules of the prior, and together train every parameter."""
    prior, _ = built(recipe, backbone)
    stages, inside = prior.stages(), {id(parameter) for parameter in prior.parameters()}
    names = [stage.name for stage in stages]
    expect(len(set(names)) == len(names) and all(names), "stages with unique names", str(names), "number the stages")
    foreign = [stage.name for stage in stages if any(id(p) not in inside for p in stage.module.parameters())]
    expect(
        not foreign,
        "stages that train only parameters of the prior",
        f"stages {foreign} train other parameters",
        "set the module as an attribute of the prior",
    )
    covered = {id(p) for stage in stages for p in stage.module.parameters()}
    left = [name for name, p in prior.named_parameters() if p.requires_grad and id(p) not in covered]
    fix = "inherit stages(), or return *self.root.stages() and a Stage for each other module"
    expect(not left, "stages that train every parameter", f"no stage trains {', '.join(left)}", fix)


def check_tilt(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that `tilt(latents)` is finite, `(B, E)`.

    A root must have no tilt, and a prior with a density must have one.
    """
    prior, twin = built(recipe, backbone)
    latents = posterior_of(twin, prior).latents
    if prior.root is None:
        fix = "to tilt a root, give the recipe a field `root: PriorRecipe` and build the root by build_root"
        expect(
            not isinstance(prior, Tilts),
            "a root without a tilt, because posterior chains ignore it",
            "a method `tilt`",
            fix,
        )
        return
    tilt = tilt_of(prior)
    if tilt is None:
        lacking = prior.density(twin, latents.context) is None
        expect(
            lacking,
            "a prior with a density has a tilt",
            "no method `tilt`",
            "add `tilt`, which returns f of each energy, (B, E)",
        )
        return
    f = tilt.at(twin, latents)
    expect(
        f.ndim == 2 and len(f) == ROWS,
        f"a tilt of shape ({ROWS}, E)",
        str(tuple(f.shape)),
        "return one column per energy",
    )
    expect_finite("the tilt", f, "initialise with smaller weights")


def check_density(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that the gradient of the density is that of its value, by central differences in float64.

    Passes if the prior has no density.
    """
    prior, twin = built(recipe, backbone, torch.float64)
    density = prior.density(twin, contexts(twin.layout, ROWS, torch.float64))
    if density is None:
        return
    u, step = points(ROWS, twin.layout.dim, torch.float64), 1e-6
    value, grad = density.value_and_grad(u)
    fix = "return log p(u) (B,) and its gradient (B, D) from value_and_grad"
    expect_shape("log p(u)", value, (ROWS,), fix)
    expect_shape("its gradient", grad, tuple(u.shape), fix)
    for direction in (points(ROWS, twin.layout.dim, torch.float64, f"direction-{i}") for i in range(3)):
        ends = [density.value_and_grad(u + sign * step * direction).value for sign in (1, -1)]
        wanted = (ends[0] - ends[1]) / (2 * step)
        expect_close(
            "the gradient of log p(u) equals the finite difference", (grad * direction).sum(1), wanted, 1e-5, fix
        )


def check_density_rows(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a NaN row changes no bit of the density's value and gradient in other rows.

    Passes if the prior has no density.
    """
    prior, twin = built(recipe, backbone)
    density = prior.density(twin, contexts(twin.layout, ROWS))
    if density is None:
        return
    u = points(ROWS, twin.layout.dim)
    spoiled = u.clone()
    spoiled[1] = math.nan
    keep, fix = [0, *range(2, ROWS)], "in the density, compute no sums, norms or statistics over the batch"
    for name, clean, poisoned in zip(
        ("value", "gradient"), density.value_and_grad(u), density.value_and_grad(spoiled), strict=True
    ):
        expect_equal(
            f"a NaN row does not change the {name} of log p(u) in the other rows", poisoned[keep], clean[keep], fix
        )


def check_context(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that the prior's root draws the context of the layout."""
    prior, twin = built(recipe, backbone)
    expect(
        hasattr(prior, "root"),
        "an attribute `root`, which is a prior, or None for a root",
        "no such attribute",
        "set self.root in __init__",
    )
    try:
        interfaces.check_context(prior, twin.layout, "prior.root")
    except ConfigError as error:
        fix = "build the root from the recipe's `root` by hebm.interfaces.build_root"
        raise failure("a root that draws the layout's context", str(error), fix) from error


def check_no_backbone(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that the prior holds no reference to a backbone after it was built, sampled and trained."""
    prior, twin = built(recipe, backbone)
    prior.sample(twin, ROWS, Noise(0, "sample"))
    for stage in prior.stages():
        _loss(stage, twin)
    held = [f"{name or 'the prior'}.{key}" for name, key in _backbones_in(prior)]
    shared = {id(p) for p in prior.parameters()} & {id(p) for p in twin.parameters()}
    fix = "store only the layout; every method receives the backbone, and a stored one would be trained and saved twice"
    expect(not held, "no reference to a backbone", f"a backbone in {', '.join(held)}", fix)
    expect(not shared, "a prior without parameters of the backbone", f"{len(shared)} shared parameters", fix)


def _backbones_in(prior: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield (module name, attribute) for every attribute that is or contains a backbone."""
    for name, module in prior.named_modules():
        for key, value in [*vars(module).items(), *module.named_children()]:
            if any(isinstance(item, Backbone) for item in _items(value)):
                yield name, key


def _items(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def check_no_global_rng(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that sampling uses no global generator."""
    prior, twin = built(recipe, backbone)
    with no_global_randomness("sampling"):
        prior.sample(twin, ROWS, Noise(0, "sample"))


def _draws(backbone: Backbone, prior: nn.Module) -> Tensor:
    if not isinstance(prior, PriorLearner):
        raise TypeError(f"{type(prior).__name__} is not a PriorLearner")
    return prior.sample(backbone, ROWS, Noise(0, "sample")).u


def check_state_dict(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a prior with the state_dict of another draws the same."""
    expect_state_dict(lambda: recipe.build(backbone), lambda prior: _draws(backbone, prior))


def check_deepcopy(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a deep copy draws the same and shares no tensors with the original."""
    expect_deepcopy(lambda: recipe.build(backbone), lambda prior: _draws(backbone, prior))


def check_seeded_build(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that building twice with one seed of torch gives equal weights."""
    expect_seeded_build(lambda: recipe.build(backbone))
