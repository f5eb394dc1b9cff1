"""Builds what the checks of a prior need: the prior itself, and posterior draws."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from hebm.densities import frozen
from hebm.interfaces import Backbone, Latents, PriorLearner, PriorRecipe, seen_by
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.testing.subjects import contexts, perturbed, points, seeded
from hebm.training.phases import start_stage

ROWS = 5
BLOCK = 64


def built(
    recipe: PriorRecipe, backbone: Backbone, dtype: torch.dtype = torch.float32, started: int | None = None
) -> tuple[PriorLearner, Backbone]:
    """Return a prior away from its initial weights, with its stages started, and a backbone of the same type.

    Arguments:
        recipe: of the prior.
        backbone: what it is built for.
        dtype: of both.
        started: how many stages to start, or None for all of them.
    """
    twin = copy.deepcopy(backbone).to(dtype).eval()
    prior = perturbed(seeded(lambda: recipe.build(twin))).to(dtype)
    with frozen(twin):  # as phase 2 has it
        for stage in prior.stages()[:started]:
            start_stage(stage, twin, Noise(0, "begin", dtype=dtype))
    return prior.eval(), twin


def posterior_of(backbone: Backbone, module: nn.Module, dtype: torch.dtype = torch.float32) -> Posterior:
    """Return draws as schemes make them: detached, without log q and KL, with all that energies in `module` see."""
    u = points(ROWS, backbone.layout.dim, dtype, "posterior")
    return Posterior(latents_at(backbone, module, u))


def latents_at(backbone: Backbone, module: nn.Module, u: Tensor) -> Latents:
    """Return T(u), detached, in fixed contexts, with all that energies in `module` see."""
    with torch.no_grad():
        return seen_by(module, backbone, u, contexts(backbone.layout, len(u), u.dtype)).detach()
