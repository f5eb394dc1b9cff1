"""What a prior promises. Every check is called with a recipe and a live backbone (float32)."""

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
    ConformanceError,
    expect_close,
    expect_equal,
    expect_finite,
    expect_gradients,
    expect_shape,
    no_global_randomness,
    promise,
)
from hebm.testing.subjects import contexts, points


def _loss(stage: Stage, backbone: Backbone) -> Loss:
    return stage.objective(backbone, posterior_of(backbone, stage.module), Noise(0, "objective"), Progress(9, 10))


def check_objective(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Each stage's loss is a finite scalar that reaches all its parameters and none of the backbone's."""
    prior, twin = built(recipe, backbone)
    for stage in prior.train().stages():
        with no_global_randomness(f"the objective of stage {stage.name!r}"):
            loss = _loss(stage, twin)
        expect_shape("loss.total", loss.total, (), "average over the batch")
        expect_finite("loss.total", loss.total, "bound the tilt")
        what = f"the loss of stage {stage.name!r} reaches all its parameters"
        expect_gradients(loss.total, stage.module.named_parameters(), what, "use or drop them", nonzero=False)
        attached = [name for name, term in loss.terms.items() if term.requires_grad or term.ndim]
        promise(
            not attached, "terms are detached scalars", f"attached to a graph: {', '.join(attached)}", "term.detach()"
        )
        if not stage.with_backbone:
            _expect_backbone_untouched(loss, twin)


def _expect_backbone_untouched(loss: Loss, backbone: Backbone) -> None:
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss.total, parameters, allow_unused=True, retain_graph=True) if parameters else ()
    reached = sum(g is not None for g in grads)
    fix = "detach what comes from the backbone: backbone.latents(u, context).detach()"
    promise(reached == 0, "no gradient in the backbone", f"{reached} of its parameters get one", fix)


def check_negative(recipe: PriorRecipe, backbone: Backbone) -> None:
    """`loss.negative`, where there is one, is detached latents `(B, D)` with z = T(u) and the positives' context."""
    prior, twin = built(recipe, backbone)
    for stage in prior.stages():
        negative = _loss(stage, twin).negative
        if negative is None:
            continue
        expect_shape("negative.u", negative.u, (ROWS, twin.layout.dim), "one negative per positive")
        promise(not negative.flat_z.requires_grad, "negatives are detached", "they hold a graph", "call .detach()")
        with torch.no_grad():
            again = twin.latents(negative.u, posterior_of(twin, prior).latents.context)
        fix = "negative = backbone.latents(u, posterior.latents.context).detach()"
        expect_close("the negatives' z = T(u)", negative.flat_z, again.flat_z, 1e-4, fix)


def check_abilities(recipe: PriorRecipe, backbone: Backbone) -> None:
    """A prior with one member of a rare ability has all of them: `TakesLabels`, `DrawsContext`."""
    prior, _ = built(recipe, backbone)
    for ability in (interfaces.TakesLabels, interfaces.DrawsContext):
        members = [name for name in vars(ability) if not name.startswith("_")]
        lacking = [name for name in members if not hasattr(prior, name)]
        whole = len(lacking) in (0, len(members))
        what = f"all of {ability.__name__} or nothing: {', '.join(members)}"
        promise(whole, what, f"without {', '.join(lacking)}", "add the missing ones; hebm/interfaces.py describes them")


def check_stages(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Stage names are unique, stages train sub-modules of the prior, and every parameter belongs to one."""
    prior, _ = built(recipe, backbone)
    stages, inside = prior.stages(), {id(parameter) for parameter in prior.parameters()}
    names = [stage.name for stage in stages]
    promise(len(set(names)) == len(names) and all(names), "unique stage names", str(names), "number them")
    foreign = [stage.name for stage in stages if any(id(p) not in inside for p in stage.module.parameters())]
    promise(
        not foreign,
        "a stage trains parameters of the prior",
        f"stages {foreign} train others",
        "set the module as an attribute",
    )
    covered = {id(p) for stage in stages for p in stage.module.parameters()}
    left = [name for name, p in prior.named_parameters() if p.requires_grad and id(p) not in covered]
    fix = "inherit stages(), or return *self.root.stages() and a Stage for each module of your own"
    promise(not left, "every parameter belongs to a stage", f"no stage trains {', '.join(left)}", fix)


def check_tilt(recipe: PriorRecipe, backbone: Backbone) -> None:
    """`tilt(latents)` is finite, `(B, E)`. A root has none, and a prior with a density of its own has one."""
    prior, twin = built(recipe, backbone)
    latents = posterior_of(twin, prior).latents
    if prior.root is None:
        fix = "tilt a root instead: give the recipe a field `root: PriorRecipe`, and build it by build_root"
        promise(not isinstance(prior, Tilts), "a root without a tilt: posterior chains leave it out", "a tilt", fix)
        return
    tilt = tilt_of(prior)
    if tilt is None:
        lacking = prior.density(twin, latents.context) is None
        promise(lacking, "a prior with a density has a tilt", "no method tilt", "return f per energy, (B, E)")
        return
    f = tilt.at(twin, latents)
    promise(f.ndim == 2 and len(f) == ROWS, f"tilt of shape ({ROWS}, E)", str(tuple(f.shape)), "one column per energy")
    expect_finite("the tilt", f, "start with small weights")


def check_density(recipe: PriorRecipe, backbone: Backbone) -> None:
    """The density's gradient is that of its value, by central differences in float64. Passes without a density."""
    prior, twin = built(recipe, backbone, torch.float64)
    density = prior.density(twin, contexts(twin.layout, ROWS, torch.float64))
    if density is None:
        return
    u, step = points(ROWS, twin.layout.dim, torch.float64), 1e-6
    value, grad = density.value_and_grad(u)
    fix = "value_and_grad must return log p(u) (B,) and its gradient (B, D)"
    expect_shape("log p(u)", value, (ROWS,), fix)
    expect_shape("its gradient", grad, tuple(u.shape), fix)
    for direction in (points(ROWS, twin.layout.dim, torch.float64, f"direction-{i}") for i in range(3)):
        ends = [density.value_and_grad(u + sign * step * direction).value for sign in (1, -1)]
        wanted = (ends[0] - ends[1]) / (2 * step)
        expect_close("gradient = finite difference", (grad * direction).sum(1), wanted, 1e-5, fix)


def check_density_rows(recipe: PriorRecipe, backbone: Backbone) -> None:
    """A NaN row leaves value and gradient of the other rows unchanged bit for bit. Passes without a density."""
    prior, twin = built(recipe, backbone)
    density = prior.density(twin, contexts(twin.layout, ROWS))
    if density is None:
        return
    u = points(ROWS, twin.layout.dim)
    spoiled = u.clone()
    spoiled[1] = math.nan
    keep, fix = [0, *range(2, ROWS)], "no sums, norms or statistics over the batch"
    for name, clean, poisoned in zip(
        ("value", "gradient"), density.value_and_grad(u), density.value_and_grad(spoiled), strict=True
    ):
        expect_equal(f"a NaN row leaves the {name} of the others unchanged", poisoned[keep], clean[keep], fix)


def check_context(recipe: PriorRecipe, backbone: Backbone) -> None:
    """The root of the prior draws the context that the layout asks for."""
    prior, twin = built(recipe, backbone)
    promise(hasattr(prior, "root"), "the attribute `root`: a prior, or None for a root", "none", "set it in __init__")
    try:
        interfaces.check_context(prior, twin.layout, "prior.root")
    except ConfigError as error:
        fix = "build the root from the recipe's `root` by hebm.interfaces.build_root"
        raise ConformanceError(f"promised: a root that fits\n    seen: {error}\n    fix: {fix}") from error


def check_no_backbone(recipe: PriorRecipe, backbone: Backbone) -> None:
    """The prior holds no reference to a backbone, after it was built, sampled and trained on one."""
    prior, twin = built(recipe, backbone)
    prior.sample(twin, ROWS, Noise(0, "sample"))
    for stage in prior.stages():
        _loss(stage, twin)
    held = [f"{name or 'the prior'}.{key}" for name, key in _backbones_in(prior)]
    shared = {id(p) for p in prior.parameters()} & {id(p) for p in twin.parameters()}
    fix = "keep its layout only; every method is given the backbone (a stored one would be trained and saved twice)"
    promise(not held, "no reference to a backbone", f"one in {', '.join(held)}", fix)
    promise(not shared, "no parameter of the backbone", f"{len(shared)} shared parameters", fix)


def _backbones_in(prior: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield (module's name, attribute) of every backbone in a module's attributes, or in containers there."""
    for name, module in prior.named_modules():
        for key, value in [*vars(module).items(), *module.named_children()]:
            if any(isinstance(item, Backbone) for item in _items(value)):
                yield name, key


def _items(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def check_no_global_rng(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Sampling reads no global generator."""
    prior, twin = built(recipe, backbone)
    with no_global_randomness("sampling"):
        prior.sample(twin, ROWS, Noise(0, "sample"))


def _draws(backbone: Backbone, prior: nn.Module) -> Tensor:
    if not isinstance(prior, PriorLearner):
        raise TypeError(f"{type(prior).__name__} is not a PriorLearner")
    return prior.sample(backbone, ROWS, Noise(0, "sample")).u


def check_state_dict(recipe: PriorRecipe, backbone: Backbone) -> None:
    """What is learned survives safetensors."""
    expect_state_dict(lambda: recipe.build(backbone), lambda prior: _draws(backbone, prior))


def check_deepcopy(recipe: PriorRecipe, backbone: Backbone) -> None:
    """A deep copy is equal and independent."""
    expect_deepcopy(lambda: recipe.build(backbone), lambda prior: _draws(backbone, prior))


def check_seeded_build(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Building is a function of torch's seed."""
    expect_seeded_build(lambda: recipe.build(backbone))
