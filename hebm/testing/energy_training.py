"""Checks of an energy in training: perturbed views and the penalty. They are called like the checks in `energies`."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from hebm.interfaces import EnergyFn, EnergyRecipe
from hebm.latents import LatentLayout, Latents
from hebm.noise import Noise
from hebm.testing.energy_subjects import built, latents_of, rows_of, times
from hebm.testing.promises import expect, expect_close, expect_equal, expect_finite, expect_gradients, expect_shape


def check_perturbed(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that `perturbed(noise)` shares the energy's parameters and draws row by row from the noise alone.

    The energy itself must not change, and must be deterministic, also in train mode.
    """
    energy, latents, t = built(recipe, layout, levels, logits=3), latents_of(layout).detach(), times(levels)
    with torch.no_grad():
        before = energy(latents, t)
        (one, next_one), (other, _) = (_forwards(energy, Noise(0, "step"), latents, t, 2) for _ in range(2))
        few = slice(2, None)
        (rows,) = _forwards(energy, Noise(0, "step", start=2), rows_of(latents, few), None if t is None else t[few])
        after = energy(latents, t)
    fix = "use modules of hebm.perturbations in the network, which draw one row of the noise for each row of latents"
    expect_equal("two views with equal noise compute the same", other, one, fix)
    expect_close("row i of a view uses row i of the noise", rows, one[few], 1e-5, fix)
    expect_equal(
        "the energy itself computes the same after a view was perturbed", after, before, "perturb only the view"
    )
    expect_finite("f of the second evaluation of a view", next_one, fix)
    view = energy.perturbed(Noise(0, "step"))
    f, fix = view(latents, t).square().sum(), "let the view share the parameters instead of copying them"
    expect_gradients(f, energy.named_parameters(), "f of a view has a gradient in the energy's parameters", fix)
    _expect_deterministic(energy, latents, t)


def _forwards(energy: EnergyFn, noise: Noise, latents: Latents, t: Tensor | None, times: int = 1) -> list[Tensor]:
    view = energy.perturbed(noise)
    return [view(latents, t) for _ in range(times)]


def _expect_deterministic(energy: EnergyFn, latents: Latents, t: Tensor | None) -> None:
    """Compare two copies, because a spectral norm may change at each evaluation in train mode."""
    twins = [copy.deepcopy(energy).train() for _ in range(2)]
    with torch.no_grad():
        twins[1].perturbed(Noise(1, "step"))
        one, other = (twin(latents, t) for twin in twins)
    fix = "perturb only the view that `perturbed` returns"
    expect_equal("the energy itself is deterministic in train mode", other, one, fix)


def check_penalty(recipe: EnergyRecipe, layout: LatentLayout, levels: int) -> None:
    """Check that `penalty` returns None, or a finite scalar ≥ 0 with a gradient in the parameters."""
    energy = built(recipe, layout, levels, logits=3)
    penalty = energy.penalty(latents_of(layout).detach(), times(levels))
    if penalty is None:
        return
    expect_shape("the penalty", penalty, (), "average over rows")
    expect_finite("the penalty", penalty, "avoid sqrt and norms at 0")
    fix = "return a mean of squares that is differentiable in the parameters, or None for no penalty"
    value = float(penalty.detach())
    expect(value >= 0, "a penalty that is at least 0", f"{value:.3g}", fix)
    expect(penalty.requires_grad, "a penalty with a gradient in the parameters", "no gradient", fix)
