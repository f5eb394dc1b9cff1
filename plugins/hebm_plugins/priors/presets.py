"""Flat priors of the literature: priors of hierarchies that take all layers for one vector.

With one layer of latents (L = 1) they are the papers' models; on a hierarchy they are the baselines that its papers
compare with, one net over the concatenation of all z_i.
"""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm.interfaces import EnergyRecipe, Sampler
from hebm_plugins.energies.mlp import MLPConcat
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.samplers.langevin import Langevin


def _flat(width: int) -> MLPConcat:
    """Two hidden layers, as published."""
    return MLPConcat(width=width, depth=2, activation="leaky-relu")


@recipe
class LEBM(Joint):
    """The latent space EBM prior (arXiv 2006.08205): `joint` with one net of 2 × 200 and chains of 60 steps, s = 0.4.

    The published nets start at PyTorch's initialisation (`energy.zero_init = false`); their default activation is
    GELU, the experiments use leaky ReLU. Published training is scheme joint.
    """

    energy: EnergyRecipe = option(factory=lambda: _flat(200), doc="f, the log tilt")
    sampler: Sampler = option(
        factory=lambda: Langevin(steps=60, step_size=0.4, convention="std"), doc="the short-run chain"
    )


@recipe
class AdaptiveCE(MultiStage):
    """Adaptive multi-stage density ratio estimation (arXiv 2209.08739): `multi-stage` with one net over all z.

    The paper is flat and learns jointly; `negatives = "posterior"` is its trick of taking the previous stage's
    posterior draws for those of p_{m−1}, for scheme joint. Settings are LEBM's: no source for its own is at hand.
    """

    energy: EnergyRecipe = option(factory=lambda: _flat(200), doc="log r of a stage")
    sampler: Sampler = option(
        factory=lambda: Langevin(steps=60, step_size=0.4, convention="std"), doc="chains, in training and after it"
    )
