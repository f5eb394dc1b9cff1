"""Checks of an energy. Every check is called with a recipe, a layout and the number of levels t."""

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
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    expect_gradients,
    expect_shape,
    failure,
    no_global_randomness,
)
from hebm.testing.subjects import points
from hebm.tilts import LATENTS, SHOWN, shown
from hebm.training.kept_latents import unknown


def check_shape(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that `forward` returns finite f `(B, E, K)`, where E is 1 or L and K is `logits`."""
    for logits in (1, 3):
        f = built(recipe, layout, levels, logits)(latents_of(layout), times(levels))
        fix = "return (B, 1, K) for one network over all layers, or (B, L, K) for one network per layer"
        allowed = f"({ROWS}, 1 or {len(layout)}, {logits})"
        fits = f.ndim == 3 and f.shape[0] == ROWS and f.shape[1] in (1, len(layout)) and f.shape[2] == logits
        expect(fits, f"f of shape {allowed} for logits = {logits}", str(tuple(f.shape)), fix)
        expect_finite("f", f, "initialise with smaller weights")


def check_batch_independence(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that f treats each row independently.

    A row alone gives the same f as in a batch, and a NaN row changes no bit of the others.
    """
    energy, u, t = built(recipe, layout, levels), points(ROWS, layout.dim), times(levels)
    spoiled = u.clone()
    spoiled[1] = math.nan
    with torch.no_grad():
        whole = energy(latents_of(layout), t)
        poisoned = energy(latents_of(layout, u=spoiled), t)
        alone = energy(rows_of(latents_of(layout), slice(2, 3)), None if t is None else t[2:3])
    fix = "in eval mode, use no batch statistics and do not reduce over dimension 0"
    expect_close("f of a row alone equals f of the row in a batch", alone[0], whole[2], 1e-5, fix)
    keep = [0, *range(2, ROWS)]
    expect_equal("a NaN row does not change f of the other rows", poisoned[keep], whole[keep], fix)


def check_parameter_gradients(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that f has a gradient in every parameter."""
    energy = built(recipe, layout, levels, logits=3)
    f = energy(latents_of(layout).detach(), times(levels)).square().sum()
    fix = "remove unused parameters, because training with several processes waits for their gradients"
    expect_gradients(f, energy.named_parameters(), "f has a gradient in every parameter", fix)


def check_latent_gradients(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that f has a gradient in every layer, through its z, its u, or a feature computed from z.

    Chains follow this gradient.
    """
    fixed = latents_of(layout).detach()
    u, z = fixed.u.requires_grad_(), tuple(part.requires_grad_() for part in fixed.z)
    latents = shown(reference(layout), Latents(u, z, fixed.sigma, fixed.context), tuple(SHOWN))
    f = built(recipe, layout, levels)(latents, times(levels))
    fix = "compute f differentiably from latents.z, latents.u or their features, without detach and rounding"
    expect(f.requires_grad, "f is differentiable in z or u", "f has no gradient", fix)
    grads = torch.autograd.grad(f.sum(), (u, *z), allow_unused=True, materialize_grads=True)
    for grad in grads:
        expect_finite("the gradient of f", grad, "avoid sqrt and norms at 0")
    by_layer = zip(layout.split(grads[0]), grads[1:], strict=True)
    still = [i for i, parts in enumerate(by_layer) if not any(bool(part.any()) for part in parts)]
    expect(not still, "f depends on every layer", f"a gradient of 0 in layers {still} (0 is the top layer)", fix)


def check_detached(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that f needs only what `Latents.detach()` keeps: u, z, σ, the context, and the inputs named in `sees`."""
    energy, latents = built(recipe, layout, levels), latents_of(layout)
    with torch.no_grad():
        whole, detached = energy(latents, times(levels)), energy(latents.detach(), times(levels))
    expect_equal("f of detached latents equals f", detached, whole, "do not read latents.carried")


def check_folded(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that `folded(t)` has the same f and the same gradient, to 1e-5.

    Tried with a different level in each row, and with each level in all rows.
    """
    energy, fix = built(recipe, layout, levels), "in folded(t), precompute only what depends on t and the weights alone"
    mixed = times(levels)
    for t in (mixed, *([] if mixed is None else [torch.full_like(mixed, level) for level in range(levels)])):
        wanted, seen = (_value_and_grad(layout, net, t) for net in (energy, energy.folded(t)))
        expect_close("folded(t) has the f of the energy", seen[0], wanted[0], 1e-5, fix)
        expect_close("folded(t) has the gradient of the energy in z", seen[1], wanted[1], 1e-5, fix)


def _value_and_grad(
    layout: LatentLayout, energy: EnergyFn, t: Tensor | None, layer: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return f, or f of one layer, and the gradient of its sum with respect to u `(B, D)`, through all that f reads."""
    u = points(ROWS, layout.dim).requires_grad_()
    latents = latents_of(layout, u=u)
    f = energy(latents, t) if layer is None else energy.of_layer(latents, layer, t)
    (grad,) = (
        torch.autograd.grad(f.sum(), u, allow_unused=True, materialize_grads=True) if f.requires_grad else (0 * u,)
    )
    return f.detach(), grad.detach()


def check_of_layer(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that `of_layer(latents, i, t)` equals column i of `forward`, with its gradient, to 1e-5."""
    energy, latents, t = built(recipe, layout, levels, logits=3), latents_of(layout), times(levels)
    fix = "in of_layer, evaluate column i of forward (0 is the top layer), or remove the override"
    total = torch.zeros_like(latents.u)
    with torch.no_grad():
        f = energy(latents, t)
    for i in range(f.shape[1]):
        column, grad = _value_and_grad(layout, energy, t, layer=i)
        total = total + grad
        expect_shape(f"of_layer({i})", column, (ROWS, 3), fix)
        expect_close(f"of_layer({i}) is column {i} of forward", column, f[:, i], 1e-5, fix)
    expect_close(
        "the gradients of all of_layer(i) sum to the gradient of forward",
        total,
        _value_and_grad(layout, energy, t)[1],
        1e-5,
        fix,
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
    """Check that `count(layout)` returns E, the number of energies of `forward`, and keeps the mode of the energy."""
    energy = built(recipe, layout, levels).train()
    counted, training = energy.count(shown_by(layout)), energy.training
    with torch.no_grad():
        found = energy.eval()(latents_of(layout), times(levels)).shape[1]
    expect(
        counted == found,
        f"count(layout) = {found}, the number of energies of forward",
        str(counted),
        "remove the override of count",
    )
    expect(
        training,
        "count leaves the energy in train mode",
        "eval mode",
        "restore the mode in count, or remove the override",
    )


def check_sees(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that `sees` names exactly the inputs that f reads: latents, image, and features of the decoder."""
    energy, everything, t = built(recipe, layout, levels), latents_of(layout), times(levels)
    known = (LATENTS, *SHOWN)
    unknown = sorted(set(energy.sees) - set(known))
    expect(not unknown, f"only names of {known} in the class attribute `sees`", ", ".join(unknown), "correct the names")
    decoded = [name for name in energy.sees if name != LATENTS]
    seen = everything if LATENTS in energy.sees else _unknown(everything, layout)
    declared = _showing(seen, {name: everything.shown[name] for name in decoded})
    fix = 'declare every input that forward reads, such as sees = ("latents", "image")'
    with torch.no_grad():
        whole = energy(everything, t)
        try:
            f = energy(declared, t)
        except PluginError as error:
            raise failure(f"f needs only {energy.sees}", str(error), fix) from error
        expect_equal(f"f needs only {energy.sees}", f, whole, fix)
        for name in decoded:
            moved = energy(_showing(declared, {**declared.shown, name: _moved(declared.shown[name])}), t)
            still = bool((moved == f).all())
            drop = "remove it from `sees`, because a chain computes it at every step"
            expect(not still, f"f depends on {name!r}, which `sees` names", "f does not change with it", drop)


def _unknown(latents: Latents, layout: LatentLayout) -> Latents:
    """Return the same points with NaN for u, z and σ, like stored draws that keep only the image."""
    return dataclasses.replace(unknown(layout, len(latents), latents.u), context=latents.context)


def _showing(latents: Latents, shown: dict[str, Any]) -> Latents:
    return Latents(latents.u, latents.z, latents.sigma, latents.context, shown=shown)


def _moved(part: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return part + 1 + part.square() if isinstance(part, Tensor) else tuple(each + 1 + each.square() for each in part)


def check_levels(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that f differs between levels in every row. Passes for one level."""
    if levels == 1:
        return
    energy, latents = built(recipe, layout, levels), latents_of(layout)
    with torch.no_grad():
        f = [energy(latents, torch.full((ROWS,), t)).flatten(1) for t in range(levels)]
    same = [t for t in range(1, levels) if bool((f[t] == f[t - 1]).all(1).any())]
    fix = "use t (B,) in forward, or raise ConfigError in build for levels > 1"
    expect(
        not same,
        "f depends on the level t in every row",
        f"rows with equal f at levels t and t - 1 for t in {same}",
        fix,
    )


def check_float64(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that `.double()` gives float64 results that agree with float32."""
    energy, t = built(recipe, layout, levels), times(levels)
    with torch.no_grad():
        single = energy(latents_of(layout), t)
        wide = points(ROWS, layout.dim).double()
        double = energy.double()(latents_of(layout, torch.float64, wide), t)
    fix = "create tensors by z.new_zeros(…) or with dtype=z.dtype"
    expect(double.dtype == torch.float64, "float64 f from float64 latents", str(double.dtype), fix)
    if layout.context is None:  # contexts differ between dtypes
        expect_close("f in float64 agrees with f in float32", double.float(), single, 1e-3, fix)


def check_no_global_rng(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that f uses no global generator, in train and eval mode."""
    energy, latents = built(recipe, layout, levels), latents_of(layout)
    for training in (False, True):
        with no_global_randomness("the energy"):
            energy.train(training)(latents, times(levels))


def _evaluating(layout: LatentLayout, levels: int, energy: nn.Module) -> Tensor:
    with torch.no_grad():
        out: Tensor = energy(latents_of(layout), times(levels))
    return out


def check_state_dict(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that an energy with the state_dict of another computes the same."""
    expect_state_dict(lambda: recipe.build(shown_by(layout), 1, levels), lambda net: _evaluating(layout, levels, net))


def check_deepcopy(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that a deep copy computes the same and shares no tensors with the original."""
    expect_deepcopy(lambda: recipe.build(shown_by(layout), 1, levels), lambda net: _evaluating(layout, levels, net))


def check_seeded_build(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that building twice with one seed of torch gives equal weights."""
    expect_seeded_build(lambda: recipe.build(shown_by(layout), 1, levels))
