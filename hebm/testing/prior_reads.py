"""Check that a prior declares what its objective reads of posterior draws, so that they can be stored."""

from __future__ import annotations

import dataclasses

import attrs
from torch import Tensor

from hebm.interfaces import Backbone, Posterior, PriorRecipe, Progress, Stage
from hebm.noise import Noise
from hebm.testing.prior_subjects import built, posterior_of
from hebm.testing.promises import expect, expect_close
from hebm.training.kept_latents import IMAGE, Kept


def check_reads(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that an objective reads of posterior draws only what its energies see and `Stage.reads` names, to 1e-4.

    `train.posterior_draws` stores nothing else; all other values are NaN.
    """
    for k in range(len(built(recipe, backbone)[0].stages())):
        prior, twin = built(recipe, backbone, started=k + 1)
        stage = prior.stages()[k]
        if not stage.with_backbone:
            _expect_enough(stage, twin)


def _expect_enough(stage: Stage, backbone: Backbone) -> None:
    posterior, kept = posterior_of(backbone, stage.module), Kept.by(stage)
    stored = kept.unpacked(backbone, kept.packed(backbone, posterior), posterior.latents.u).detach()
    found = _loss(stage, backbone, stored)
    fix = 'name the values that the loss reads, such as reads = ("latents",), on the prior or in the Stage'
    what = f"a finite loss of stage {stage.name!r} on draws that store only {sorted(kept.reads)}"
    expect(bool(found.isfinite()), what, f"{float(found)}", fix)
    if IMAGE in kept.reads:  # stored in 8 bits
        shown = {**posterior.latents.shown, IMAGE: stored.latents.image}
        posterior = attrs.evolve(posterior, latents=dataclasses.replace(posterior.latents, shown=shown))
    expect_close(
        f"the loss of stage {stage.name!r} is the same on stored draws",
        found,
        _loss(stage, backbone, posterior),
        1e-4,
        fix,
    )


def _loss(stage: Stage, backbone: Backbone, posterior: Posterior) -> Tensor:
    return stage.objective(backbone, posterior, Noise(0, "objective"), Progress(9, 10)).total.detach()
