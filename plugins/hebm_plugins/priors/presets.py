"""Flat priors of the literature: one net over the concatenation of all z_i.

With one latent layer (L = 1) they are the papers' models. On a hierarchy they are the baselines that papers on
hierarchical priors compare with.
"""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm.interfaces import EnergyRecipe, Sampler
from hebm_plugins.energies.mlp import MLPConcat
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.samplers.langevin import Langevin


def _flat(width: int) -> MLPConcat:
    """Return the published net, which has two hidden layers."""
    return MLPConcat(width=width, depth=2, activation="leaky-relu")


@recipe
class LEBM(Joint):
    """log p(u) = f(T(u)) + log N(u; 0, I) − log Z: the latent space EBM prior (arXiv 2006.08205).

    This is `joint` with one net of two hidden layers of 200 units, and chains of 60 steps with s = 0.4. The published
    nets keep PyTorch's initial weights (`energy.zero_init = false`). The published code's default activation is GELU;
    its experiments use leaky ReLU. The paper trains with scheme joint.

    Example:
        >>> LEBM().sampler.h == 0.4**2
        True
    """

    energy: EnergyRecipe = option(factory=lambda: _flat(200), doc="f, the log tilt")
    sampler: Sampler = option(
        factory=lambda: Langevin(steps=60, step_size=0.4, convention="std"),
        doc="the short-run chain, in training and after it",
    )


@recipe
class AdaptiveCE(MultiStage):
    """p_M(u) ∝ Π_{s ≤ M} r_s(T(u)) N(u; 0, I) by adaptive multi-stage density ratio estimation (arXiv 2209.08739).

    This is `multi-stage` with one net over all z. The paper has one latent layer and trains with scheme joint. There,
    `contrast.negatives = "posterior"` uses the previous stage's posterior draws as draws of p_{m−1}, as in the paper.
    Net and sampler have the settings of `lebm`, since the paper's are not available.

    Example:
        >>> AdaptiveCE().stages
        3
    """

    energy: EnergyRecipe = option(factory=lambda: _flat(200), doc="log r of a stage")
    sampler: Sampler = option(
        factory=lambda: Langevin(steps=60, step_size=0.4, convention="std"),
        doc="the chain of each stage, in training and after it",
    )
