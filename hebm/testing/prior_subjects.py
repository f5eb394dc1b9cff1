"""Build a prior and posterior draws for the checks of priors."""

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
    """Return a prior with weights that differ from the initial ones and started stages, and a backbone of its dtype.

    Arguments:
        recipe: recipe of the prior.
        backbone: backbone for which the prior is built; it is copied.
        dtype: dtype of both.
        started: number of stages to start; None starts all of them.
    """
    twin = copy.deepcopy(backbone).to(dtype).eval()
    prior = perturbed(seeded(lambda: recipe.build(twin))).to(dtype)
    with frozen(twin):  # as in phase 2
        for stage in prior.stages()[:started]:
            start_stage(stage, twin, Noise(0, "begin", dtype=dtype))
    return prior.eval(), twin


def posterior_of(backbone: Backbone, module: nn.Module, dtype: torch.dtype = torch.float32) -> Posterior:
    """Return detached draws without log q and KL, with all inputs that energies in `module` read."""
    u = points(ROWS, backbone.layout.dim, dtype, "posterior")
    return Posterior(latents_at(backbone, module, u))


def latents_at(backbone: Backbone, module: nn.Module, u: Tensor) -> Latents:
    """Return T(u), detached, in fixed contexts, with all inputs that energies in `module` read."""
    with torch.no_grad():
        return seen_by(module, backbone, u, contexts(backbone.layout, len(u), u.dtype)).detach()
