"""Contrastive priors for deep hierarchies: one density ratio, of the decoded image or of the feature before it."""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm.interfaces import EnergyRecipe, Sampler
from hebm_plugins.energies.image_conv import FeatureConv, ImageConv
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Contrast
from hebm_plugins.priors.starts import START_PROPOSALS
from hebm_plugins.samplers.pcn_mala import PCNMALA


@recipe
class ImageContrast(MultiStage):
    """log p(u) = f(E[x | T(u)]) + log N(u; 0, I) − log Z: `multi-stage` with one stage whose energy sees the image.

    f is a convolutional net that tells reconstructions of training images from decoded draws of the root; no chain is
    run in training. In a deep hierarchy the prior hole lies in how a layer depends on the layers above it: the decoded
    image shows that, a sum of energies of one layer each cannot (`hebm analyse RUN hole`). A draw starts at one of 8
    draws of the root, chosen by exp f, and moves by pCN-MALA, whose acceptance does not fall with the number of
    coordinates that the decoder ignores. The step size is adapted to an acceptance of one half.

    Set `train.posterior_draws`, so that images are inferred and decoded once. Not from a paper: noise-contrastive
    estimation (Gutmann and Hyvärinen 2010) as `multi-stage` has it, with the sampler of Cotter et al. 2013.
    """

    stages: int = option(1, doc="M, ratios learned one after another", low=1, high=100)
    energy: EnergyRecipe = option(factory=ImageConv, doc="log r of a stage; should start at 0")
    sampler: Sampler = option(
        factory=lambda: PCNMALA(steps=30, step_size=0.3, target_acceptance=0.5), doc="chains after training"
    )
    contrast: Contrast = option(factory=lambda: Contrast(negatives="pool", pool=24_000), doc="how ratios are learned")
    start_proposals: int = option(8, doc=START_PROPOSALS, low=1)


@recipe
class FeatureContrast(ImageContrast):
    """log p(u) = f(d(u)) + log N(u; 0, I) − log Z, where d is the decoder's last feature map: else `image-contrast`.

    The image is computed from d, so f sees no less than `image-contrast` does, and a chain need not run the image head.
    """

    energy: EnergyRecipe = option(factory=FeatureConv, doc="log r of a stage; should start at 0")
