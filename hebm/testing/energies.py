"""What an energy promises. Every check is called with a recipe, a layout, and how many levels t runs over."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from hebm.errors import PluginError
from hebm.interfaces import EnergyFn, EnergyRecipe, ImageSpec
from hebm.latents import LatentLayout, Latents
from hebm.noise import Noise
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
from hebm.testing.subjects import SMALL_IMAGES, ReferenceBackbone, contexts, perturbed, points, seeded
from hebm.tilts import LATENTS, SHOWN, shown

ROWS = 5


def _built(recipe: EnergyRecipe, layout: LatentLayout, levels: int, logits: int = 1) -> EnergyFn:
    return perturbed(seeded(lambda: recipe.build(_shown_by(layout), logits, levels))).eval()


def _reference(layout: LatentLayout, dtype: torch.dtype = torch.float32) -> ReferenceBackbone:
    images = SMALL_IMAGES if layout.image is None else ImageSpec(*layout.image)
    return perturbed(seeded(lambda: ReferenceBackbone(layout, images))).to(dtype)


def _shown_by(layout: LatentLayout) -> LatentLayout:
    """Return the layout with all that the reference backbone shows to energies."""
    return _reference(layout).layout


def _latents(layout: LatentLayout, dtype: torch.dtype = torch.float32, u: Tensor | None = None) -> Latents:
    """Return T of the reference backbone at fixed points, or at u, with all that energies can see."""
    backbone, at = _reference(layout, dtype), points(ROWS, layout.dim, dtype) if u is None else u
    return shown(backbone, backbone.latents(at, contexts(layout, len(at), dtype)), tuple(SHOWN))


def _times(levels: int, rows: int = ROWS) -> Tensor | None:
    return None if levels == 1 else torch.arange(rows) % levels


def check_shape(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`forward` is `(B, E, K)`: E = 1 or L, K = logits; finite."""
    for logits in (1, 3):
        f = _built(recipe, layout, levels, logits)(_latents(layout), _times(levels))
        fix = "return (B, 1, K) for one net over all layers or (B, L, K) for one net per layer"
        allowed = f"({ROWS}, 1 or {len(layout)}, {logits})"
        fits = f.ndim == 3 and f.shape[0] == ROWS and f.shape[1] in (1, len(layout)) and f.shape[2] == logits
        promise(fits, f"logits = {logits} gives f of shape {allowed}", str(tuple(f.shape)), fix)
        expect_finite("f", f, "start with small weights")


def check_batch_independence(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Each row depends on its own row alone: a row by itself is equal, NaN in others changes no bit."""
    energy, u, t = _built(recipe, layout, levels), points(ROWS, layout.dim), _times(levels)
    spoiled = u.clone()
    spoiled[1] = math.nan
    with torch.no_grad():
        whole = energy(_latents(layout), t)
        poisoned = energy(_latents(layout, u=spoiled), t)
        alone = energy(_rows(_latents(layout), slice(2, 3)), None if t is None else t[2:3])
    fix = "no batch statistics in eval mode, no reductions over dimension 0"
    expect_close("a row of a batch equals the row alone", alone[0], whole[2], 1e-5, fix)
    keep = [0, *range(2, ROWS)]
    expect_equal("a NaN row leaves the others unchanged", poisoned[keep], whole[keep], fix)


def _rows(latents: Latents, few: slice) -> Latents:
    z, sigma = ([part[few] for part in parts] for parts in (latents.z, latents.sigma))
    context = None if latents.context is None else latents.context[few]
    seen = {
        name: part[few] if isinstance(part, Tensor) else tuple(each[few] for each in part)
        for name, part in latents.shown.items()
    }
    return Latents(latents.u[few], tuple(z), tuple(sigma), context, shown=seen)


def check_parameter_gradients(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """The gradient of f reaches every parameter."""
    energy = _built(recipe, layout, levels, logits=3)
    f = energy(_latents(layout).detach(), _times(levels)).square().sum()
    fix = "drop parameters that are not used: several processes would wait for their gradients"
    expect_gradients(f, energy.named_parameters(), "the gradient of f reaches every parameter", fix)


def check_latent_gradients(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """The gradient of f reaches every layer, through its z or its u, or what is computed from z: chains follow it."""
    fixed = _latents(layout).detach()
    u, z = fixed.u.requires_grad_(), tuple(part.requires_grad_() for part in fixed.z)
    latents = shown(_reference(layout), Latents(u, z, fixed.sigma, fixed.context), tuple(SHOWN))
    f = _built(recipe, layout, levels)(latents, _times(levels))
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
    energy, latents = _built(recipe, layout, levels), _latents(layout)
    with torch.no_grad():
        whole, detached = energy(latents, _times(levels)), energy(latents.detach(), _times(levels))
    expect_equal("f of detached latents is f", detached, whole, "do not read latents.carried")


def check_folded(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`folded(t)` computes the same, and the same gradient, to 1e-5: at mixed levels and at each level alone."""
    energy, fix = _built(recipe, layout, levels), "fold what depends on t and weights alone, and detach nothing else"
    mixed = _times(levels)
    for t in (mixed, *([] if mixed is None else [torch.full_like(mixed, level) for level in range(levels)])):
        wanted, seen = (_value_and_grad(layout, net, t) for net in (energy, energy.folded(t)))
        expect_close("folded(t) computes the same", seen[0], wanted[0], 1e-5, fix)
        expect_close("folded(t) has the same gradient in z", seen[1], wanted[1], 1e-5, fix)


def _value_and_grad(
    layout: LatentLayout, energy: EnergyFn, t: Tensor | None, layer: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return f, or that of one layer, and the gradient of its sum in u `(B, D)`, through z and all that f sees."""
    u = points(ROWS, layout.dim).requires_grad_()
    latents = _latents(layout, u=u)
    f = energy(latents, t) if layer is None else energy.of_layer(latents, layer, t)
    (grad,) = (
        torch.autograd.grad(f.sum(), u, allow_unused=True, materialize_grads=True) if f.requires_grad else (0 * u,)
    )
    return f.detach(), grad.detach()


def check_of_layer(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`of_layer(latents, i, t)` is column i of `forward`, to 1e-5, for every energy i, and so is its gradient."""
    energy, latents, t = _built(recipe, layout, levels, logits=3), _latents(layout), _times(levels)
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


def check_count(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`count(layout)` is E, the number of energies that `forward` returns, and leaves the energy in its mode."""
    energy = _built(recipe, layout, levels).train()
    counted, training = energy.count(_shown_by(layout)), energy.training
    with torch.no_grad():
        found = energy.eval()(_latents(layout), _times(levels)).shape[1]
    promise(counted == found, f"count = E = {found}", str(counted), "drop the override: EnergyFn.count asks forward")
    promise(training, "count leaves the energy in training mode", "it is in eval mode", "restore the mode")


def check_sees(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`sees` is what f reads of latents, image and the decoder's features: f needs nothing else, and all of these."""
    energy, everything, t = _built(recipe, layout, levels), _latents(layout), _times(levels)
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
    """Return as many points of which u, z and σ are NaN, as they are where stored draws keep the image alone."""
    return dataclasses.replace(layout.unknown(len(latents), latents.u), context=latents.context)


def _showing(latents: Latents, shown: dict[str, Any]) -> Latents:
    return Latents(latents.u, latents.z, latents.sigma, latents.context, shown=shown)


def _moved(part: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return part + 1 + part.square() if isinstance(part, Tensor) else tuple(each + 1 + each.square() for each in part)


def check_perturbed(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`perturbed(noise)` has the energy's parameters, and takes all its numbers from the noise, row by row.

    The energy itself stays as it is, and computes the same in each evaluation, in train mode too.
    """
    energy, latents, t = _built(recipe, layout, levels, logits=3), _latents(layout).detach(), _times(levels)
    with torch.no_grad():
        before = energy(latents, t)
        (one, next_one), (other, _) = (_forwards(energy, Noise(0, "step"), latents, t, 2) for _ in range(2))
        few = slice(2, None)
        (rows,) = _forwards(energy, Noise(0, "step", start=2), _rows(latents, few), None if t is None else t[few])
        after = energy(latents, t)
    fix = "draw from the noise alone, a row for each row: put modules of hebm.perturbations into the net"
    expect_equal("two views of one noise compute the same", other, one, fix)
    expect_close("row i of a view takes the numbers of row i of the noise", rows, one[few], 1e-5, fix)
    expect_equal("the energy itself is as it was before", after, before, "perturb a view, and leave the energy alone")
    expect_finite("f of the view's next forward", next_one, fix)
    view = energy.perturbed(Noise(0, "step"))
    f, fix = view(latents, t).square().sum(), "share the parameters: do not copy them"
    expect_gradients(f, energy.named_parameters(), "the gradient of a view's f reaches the energy's parameters", fix)
    _expect_deterministic(energy, latents, t)


def _forwards(energy: EnergyFn, noise: Noise, latents: Latents, t: Tensor | None, times: int = 1) -> list[Tensor]:
    view = energy.perturbed(noise)
    return [view(latents, t) for _ in range(times)]


def _expect_deterministic(energy: EnergyFn, latents: Latents, t: Tensor | None) -> None:
    """Evaluate copies, since a spectral norm may advance in train mode."""
    twins = [copy.deepcopy(energy).train() for _ in range(2)]
    with torch.no_grad():
        twins[1].perturbed(Noise(1, "step"))
        one, other = (twin(latents, t) for twin in twins)
    fix = "perturb the view that `perturbed` returns, and nothing else"
    expect_equal("the energy itself is deterministic in train mode", other, one, fix)


def check_penalty(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`penalty` is None, or a finite scalar that is not negative and whose gradient reaches parameters."""
    energy = _built(recipe, layout, levels, logits=3)
    penalty = energy.penalty(_latents(layout).detach(), _times(levels))
    if penalty is None:
        return
    expect_shape("the penalty", penalty, (), "take the mean over rows")
    expect_finite("the penalty", penalty, "avoid sqrt and norms at 0")
    fix = "return a mean of squares that is differentiable in the parameters; None without a penalty"
    value = float(penalty.detach())
    promise(value >= 0, "the penalty is not negative", f"{value:.3g}", fix)
    promise(penalty.requires_grad, "the penalty has a gradient in the parameters", "it has none", fix)


def check_levels(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """f differs from level to level in every row. Passes for one level."""
    if levels == 1:
        return
    energy, latents = _built(recipe, layout, levels), _latents(layout)
    with torch.no_grad():
        f = [energy(latents, torch.full((ROWS,), t)).flatten(1) for t in range(levels)]
    same = [t for t in range(1, levels) if bool((f[t] == f[t - 1]).all(1).any())]
    fix = "use t `(B,)` in forward, or raise ConfigError in build for levels > 1"
    promise(not same, "f depends on t", f"the same f at t and t - 1 for t in {same}", fix)


def check_float64(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`.double()` gives float64 results close to those in float32."""
    energy, t = _built(recipe, layout, levels), _times(levels)
    with torch.no_grad():
        single = energy(_latents(layout), t)
        wide = points(ROWS, layout.dim).double()
        double = energy.double()(_latents(layout, torch.float64, wide), t)
    fix = "make tensors by z.new_zeros(...) or with dtype=z.dtype"
    promise(double.dtype == torch.float64, "float64 in, float64 out", str(double.dtype), fix)
    if layout.context is None:  # a context is drawn again in each type
        expect_close("float64 agrees with float32", double.float(), single, 1e-3, fix)


def check_no_global_rng(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """The tilt reads no global generator, in train and eval mode."""
    energy, latents = _built(recipe, layout, levels), _latents(layout)
    for training in (False, True):
        with no_global_randomness("the energy"):
            energy.train(training)(latents, _times(levels))


def _evaluating(layout: LatentLayout, levels: int, energy: nn.Module) -> Tensor:
    with torch.no_grad():
        out: Tensor = energy(_latents(layout), _times(levels))
    return out


def check_state_dict(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """What is learned survives safetensors."""
    expect_state_dict(lambda: recipe.build(_shown_by(layout), 1, levels), lambda net: _evaluating(layout, levels, net))


def check_deepcopy(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """A deep copy is equal and independent."""
    expect_deepcopy(lambda: recipe.build(_shown_by(layout), 1, levels), lambda net: _evaluating(layout, levels, net))


def check_seeded_build(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Building is a function of torch's seed."""
    expect_seeded_build(lambda: recipe.build(_shown_by(layout), 1, levels))
