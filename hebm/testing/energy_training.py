"""What an energy promises training: views that a noise perturbs, and a penalty. Called as the checks in `energies`."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from hebm.interfaces import EnergyFn, EnergyRecipe
from hebm.latents import LatentLayout, Latents
from hebm.noise import Noise
from hebm.testing.energy_subjects import built, latents_of, rows_of, times
from hebm.testing.promises import expect_close, expect_equal, expect_finite, expect_gradients, expect_shape, promise


def check_perturbed(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """`perturbed(noise)` has the energy's parameters, and takes all its numbers from the noise, row by row.

    The energy itself stays as it is, and computes the same in each evaluation, in train mode too.
    """
    energy, latents, t = built(recipe, layout, levels, logits=3), latents_of(layout).detach(), times(levels)
    with torch.no_grad():
        before = energy(latents, t)
        (one, next_one), (other, _) = (_forwards(energy, Noise(0, "step"), latents, t, 2) for _ in range(2))
        few = slice(2, None)
        (rows,) = _forwards(energy, Noise(0, "step", start=2), rows_of(latents, few), None if t is None else t[few])
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
    energy = built(recipe, layout, levels, logits=3)
    penalty = energy.penalty(latents_of(layout).detach(), times(levels))
    if penalty is None:
        return
    expect_shape("the penalty", penalty, (), "take the mean over rows")
    expect_finite("the penalty", penalty, "avoid sqrt and norms at 0")
    fix = "return a mean of squares that is differentiable in the parameters; None without a penalty"
    value = float(penalty.detach())
    promise(value >= 0, "the penalty is not negative", f"{value:.3g}", fix)
    promise(penalty.requires_grad, "the penalty has a gradient in the parameters", "it has none", fix)
