"""What an energy promises. Every check is called with a recipe, a layout, and how many levels t runs over."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from hebm.errors import PluginError
from hebm.gradients import Differentiates
from hebm.interfaces import EnergyFn, EnergyRecipe
from hebm.latents import LatentLayout, Latents, as_leaves
from hebm.testing.energy_subjects import ROWS, built, latents_of, reference, rows_of, shown_by, times
from hebm.testing.modules import expect_deepcopy, expect_seeded_build, expect_state_dict
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
from hebm.testing.subjects import points
from hebm.tilts import LATENTS, SHOWN, shown
from hebm.training.kept_latents import unknown


def check_shape(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`forward` is `(B, E, K)`: E = 1 or L, K = logits; finite."""
    for logits in (1, 3):
        f = built(recipe, layout, levels, logits)(latents_of(layout), times(levels))
        fix = "return (B, 1, K) for one net over all layers or (B, L, K) for one net per layer"
        allowed = f"({ROWS}, 1 or {len(layout)}, {logits})"
        fits = f.ndim == 3 and f.shape[0] == ROWS and f.shape[1] in (1, len(layout)) and f.shape[2] == logits
        promise(fits, f"logits = {logits} gives f of shape {allowed}", str(tuple(f.shape)), fix)
        expect_finite("f", f, "start with small weights")


def check_batch_independence(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Each row depends on its own row alone: a row by itself is equal, NaN in others changes no bit."""
    energy, u, t = built(recipe, layout, levels), points(ROWS, layout.dim), times(levels)
    spoiled = u.clone()
    spoiled[1] = math.nan
    with torch.no_grad():
        whole = energy(latents_of(layout), t)
        poisoned = energy(latents_of(layout, u=spoiled), t)
        alone = energy(rows_of(latents_of(layout), slice(2, 3)), None if t is None else t[2:3])
    fix = "no batch statistics in eval mode, no reductions over dimension 0"
    expect_close("a row of a batch equals the row alone", alone[0], whole[2], 1e-5, fix)
    keep = [0, *range(2, ROWS)]
    expect_equal("a NaN row leaves the others unchanged", poisoned[keep], whole[keep], fix)


def check_parameter_gradients(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """The gradient of f reaches every parameter."""
    energy = built(recipe, layout, levels, logits=3)
    f = energy(latents_of(layout).detach(), times(levels)).square().sum()
    fix = "drop parameters that are not used: several processes would wait for their gradients"
    expect_gradients(f, energy.named_parameters(), "the gradient of f reaches every parameter", fix)


def check_latent_gradients(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """The gradient of f reaches every layer, through its z or its u, or what is computed from z: chains follow it."""
    fixed = latents_of(layout).detach()
    u, z = fixed.u.requires_grad_(), tuple(part.requires_grad_() for part in fixed.z)
    latents = shown(reference(layout), Latents(u, z, fixed.sigma, fixed.context), tuple(SHOWN))
    f = built(recipe, layout, levels)(latents, times(levels))
    fix = "stay differentiable in latents.z or latents.u; no detach, no rounding"
    promise(f.requires_grad, "f is differentiable in z or u", "it is in neither", fix)
    grads = torch.autograd.grad(f.sum(), (u, *z), allow_unused=True, materialize_grads=True)
    for grad in grads:
        expect_finite("the gradient of f", grad, "avoid sqrt and norms at 0")
    by_layer = zip(layout.split(grads[0]), grads[1:], strict=True)
    still = [i for i, parts in enumerate(by_layer) if not any(bool(part.any()) for part in parts)]
    promise(not still, "f depends on every layer", f"zero gradient in layer(s) {still}, top first", fix)


def check_detached(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """f needs only what `Latents.detach()` keeps: u, z, σ, the context, and what `sees` names."""
    energy, latents = built(recipe, layout, levels), latents_of(layout)
    with torch.no_grad():
        whole, detached = energy(latents, times(levels)), energy(latents.detach(), times(levels))
    expect_equal("f of detached latents is f", detached, whole, "do not read latents.carried")


def check_folded(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`folded(t)` computes the same, and the same gradient, to 1e-5: at mixed levels and at each level alone."""
    energy, fix = built(recipe, layout, levels), "fold what depends on t and weights alone, and detach nothing else"
    mixed = times(levels)
    for t in (mixed, *([] if mixed is None else [torch.full_like(mixed, level) for level in range(levels)])):
        wanted, seen = (_value_and_grad(layout, net, t) for net in (energy, energy.folded(t)))
        expect_close("folded(t) computes the same", seen[0], wanted[0], 1e-5, fix)
        expect_close("folded(t) has the same gradient in z", seen[1], wanted[1], 1e-5, fix)


def _value_and_grad(
    layout: LatentLayout, energy: EnergyFn, t: Tensor | None, layer: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return f, or that of one layer, and the gradient of its sum in u `(B, D)`, through z and all that f sees."""
    u = points(ROWS, layout.dim).requires_grad_()
    latents = latents_of(layout, u=u)
    f = energy(latents, t) if layer is None else energy.of_layer(latents, layer, t)
    (grad,) = (
        torch.autograd.grad(f.sum(), u, allow_unused=True, materialize_grads=True) if f.requires_grad else (0 * u,)
    )
    return f.detach(), grad.detach()


def check_of_layer(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`of_layer(latents, i, t)` is column i of `forward`, to 1e-5, for every energy i, and so is its gradient."""
    energy, latents, t = built(recipe, layout, levels, logits=3), latents_of(layout), times(levels)
    fix = "evaluate what forward evaluates for that energy, top first; or drop the override"
    total = torch.zeros_like(latents.u)
    with torch.no_grad():
        f = energy(latents, t)
    for i in range(f.shape[1]):
        column, grad = _value_and_grad(layout, energy, t, layer=i)
        total = total + grad
        expect_shape(f"of_layer({i})", column, (ROWS, 3), fix)
        expect_close(f"of_layer({i}) is column {i} of forward", column, f[:, i], 1e-5, fix)
    expect_close(
        "gradients of all layers add up to that of forward", total, _value_and_grad(layout, energy, t)[1], 1e-5, fix
    )


def check_own_gradient(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`value_and_grad` returns f and its gradients in z and u, equal to those of autograd in float64 to 1e-12."""
    energy, t = built(recipe, layout, levels, logits=3).double(), times(levels)
    if not isinstance(energy, Differentiates):
        return
    fix = "return Gradients(f, z, u): the gradients of the sum of forward(latents, t), at fixed u and at fixed z"
    leaves, (u, *z) = as_leaves(dataclasses.replace(latents_of(layout, torch.float64), shown={}))
    f = energy(leaves, t)
    grads = torch.autograd.grad(f.sum(), [u, *z], allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        found = energy.value_and_grad(leaves, t)
    expect_close("value_and_grad(latents).f = forward(latents)", found.f, f, 1e-12, fix)
    seen = (
        torch.zeros_like(u) if found.u is None else found.u,
        *(map(torch.zeros_like, z) if found.z is None else found.z),
    )
    for name, own, wanted in zip(("u", *(f"z[{i}]" for i in range(len(z)))), seen, grads, strict=True):
        expect_shape(f"the gradient in {name}", own, tuple(wanted.shape), fix)
        expect_close(f"the gradient in {name} is that of autograd", own, wanted, 1e-12, fix)


def check_count(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`count(layout)` is E, the number of energies that `forward` returns, and leaves the energy in its mode."""
    energy = built(recipe, layout, levels).train()
    counted, training = energy.count(shown_by(layout)), energy.training
    with torch.no_grad():
        found = energy.eval()(latents_of(layout), times(levels)).shape[1]
    promise(counted == found, f"count = E = {found}", str(counted), "drop the override: EnergyFn.count asks forward")
    promise(training, "count leaves the energy in training mode", "it is in eval mode", "restore the mode")


def check_sees(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`sees` is what f reads of latents, image and the decoder's features: f needs nothing else, and all of these."""
    energy, everything, t = built(recipe, layout, levels), latents_of(layout), times(levels)
    known = (LATENTS, *SHOWN)
    unknown = sorted(set(energy.sees) - set(known))
    promise(not unknown, f"names among {known} in sees", ", ".join(unknown), "correct the class attribute")
    decoded = [name for name in energy.sees if name != LATENTS]
    seen = everything if LATENTS in energy.sees else _unknown(everything, layout)
    declared = _showing(seen, {name: everything.shown[name] for name in decoded})
    fix = 'declare all that forward reads: sees = ("latents", "image")'
    with torch.no_grad():
        whole = energy(everything, t)
        try:
            f = energy(declared, t)
        except PluginError as error:
            raise ConformanceError(
                f"promised: f needs only {energy.sees}\n    seen: {error}\n    fix: {fix}"
            ) from error
        expect_equal("f where nothing is shown but what it sees", f, whole, fix)
        for name in decoded:
            moved = energy(_showing(declared, {**declared.shown, name: _moved(declared.shown[name])}), t)
            still = bool((moved == f).all())
            drop = "drop it from sees: it is computed at every step of a chain"
            promise(not still, f"f depends on {name!r}, which it sees", "f does not change with it", drop)


def _unknown(latents: Latents, layout: LatentLayout) -> Latents:
    """Return the same points with NaN for u, z and σ, as stored draws have them that keep the image alone."""
    return dataclasses.replace(unknown(layout, len(latents), latents.u), context=latents.context)


def _showing(latents: Latents, shown: dict[str, Any]) -> Latents:
    return Latents(latents.u, latents.z, latents.sigma, latents.context, shown=shown)


def _moved(part: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return part + 1 + part.square() if isinstance(part, Tensor) else tuple(each + 1 + each.square() for each in part)


def check_levels(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """f differs from level to level in every row. Passes for one level."""
    if levels == 1:
        return
    energy, latents = built(recipe, layout, levels), latents_of(layout)
    with torch.no_grad():
        f = [energy(latents, torch.full((ROWS,), t)).flatten(1) for t in range(levels)]
    same = [t for t in range(1, levels) if bool((f[t] == f[t - 1]).all(1).any())]
    fix = "use t `(B,)` in forward, or raise ConfigError in build for levels > 1"
    promise(not same, "f depends on t", f"the same f at t and t - 1 for t in {same}", fix)


def check_float64(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`.double()` gives float64 results close to those in float32."""
    energy, t = built(recipe, layout, levels), times(levels)
    with torch.no_grad():
        single = energy(latents_of(layout), t)
        wide = points(ROWS, layout.dim).double()
        double = energy.double()(latents_of(layout, torch.float64, wide), t)
    fix = "make tensors by z.new_zeros(...) or with dtype=z.dtype"
    promise(double.dtype == torch.float64, "float64 in, float64 out", str(double.dtype), fix)
    if layout.context is None:  # a context is drawn again in each type
        expect_close("float64 agrees with float32", double.float(), single, 1e-3, fix)


def check_no_global_rng(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """The tilt reads no global generator, in train and eval mode."""
    energy, latents = built(recipe, layout, levels), latents_of(layout)
    for training in (False, True):
        with no_global_randomness("the energy"):
            energy.train(training)(latents, times(levels))


def _evaluating(layout: LatentLayout, levels: int, energy: nn.Module) -> Tensor:
    with torch.no_grad():
        out: Tensor = energy(latents_of(layout), times(levels))
    return out


def check_state_dict(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """What is learned survives safetensors."""
    expect_state_dict(lambda: recipe.build(shown_by(layout), 1, levels), lambda net: _evaluating(layout, levels, net))


def check_deepcopy(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """A deep copy is equal and independent."""
    expect_deepcopy(lambda: recipe.build(shown_by(layout), 1, levels), lambda net: _evaluating(layout, levels, net))


def check_seeded_build(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Building is a function of torch's seed."""
    expect_seeded_build(lambda: recipe.build(shown_by(layout), 1, levels))
