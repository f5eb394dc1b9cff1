"""Priors on their way into a check."""

from __future__ import annotations

import copy

import torch

from hebm.densities import frozen
from hebm.interfaces import (
    Backbone,
    PriorLearner,
    PriorRecipe,
)
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.testing.subjects import contexts, perturbed, points, seeded
from hebm.training.phases import start_stage

ROWS = 5
BLOCK = 64


def built(recipe: PriorRecipe, backbone: Backbone, dtype: torch.dtype = torch.float32) -> tuple[PriorLearner, Backbone]:
    """Return a prior away from its initial weights, its stages started, and a backbone of the same type."""
    twin = copy.deepcopy(backbone).to(dtype).eval()
    prior = perturbed(seeded(lambda: recipe.build(twin))).to(dtype)
    with frozen(twin):  # as phase 2 has it
        for stage in prior.stages():
            start_stage(stage, twin, Noise(0, "begin", dtype=dtype))
    return prior.eval(), twin


def posterior_of(backbone: Backbone, dtype: torch.dtype = torch.float32) -> Posterior:
    """Draws as scheme joint makes them: detached, without log q and KL."""
    with torch.no_grad():
        u = points(ROWS, backbone.layout.dim, dtype, "posterior")
        return Posterior(backbone.latents(u, contexts(backbone.layout, ROWS, dtype)).detach())
