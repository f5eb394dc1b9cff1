"""Contrastive priors for deep hierarchies: one density ratio of the decoded image, or of the decoder's last feature."""

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

    f is a convolutional net, trained to separate reconstructions of training images from decoded draws of the root.
    Training runs no chains. In a deep hierarchy the prior hole is in the dependence of a layer on the layers above it.
    The decoded image shows this dependence; a sum of energies of single layers cannot (`hebm analyse RUN hole`).

    A draw starts at one of 8 draws of the root, chosen with weights exp f, and moves by pCN-MALA, whose acceptance does
    not fall with the number of coordinates that the decoder ignores. The step size is adapted to an acceptance of one
    half. Set `train.posterior_draws` to infer and decode each training image only once.

    This prior is not from a paper. It combines noise-contrastive estimation (Gutmann and Hyvärinen 2010), as in
    `multi-stage`, with the sampler of Cotter et al. 2013.

    Example:
        >>> from hebm import ImageSpec, Noise, NVAETiny
        >>> backbone = NVAETiny().build(ImageSpec(1, 32, 32))
        >>> prior = ImageContrast(start_proposals=4).build(backbone)
        >>> [transition.name for transition in prior.planned_transitions(backbone)]
        ['start stage 1', 'stage 1']
    """

    stages: int = option(1, doc="M, the number of ratios, learned one after another", low=1, high=100)
    energy: EnergyRecipe = option(factory=ImageConv, doc="log r of a stage; it should start at 0")
    sampler: Sampler = option(
        factory=lambda: PCNMALA(steps=30, step_size=0.3, target_acceptance=0.5),
        doc="the chain of each stage, after training",
    )
    contrast: Contrast = option(
        factory=lambda: Contrast(negatives="pool", pool=24_000), doc="settings for learning the ratios"
    )
    start_proposals: int = option(8, doc=START_PROPOSALS, low=1)


@recipe
class FeatureContrast(ImageContrast):
    """log p(u) = f(d(u)) + log N(u; 0, I) − log Z, where d is the decoder's last feature map.

    The rest is as in `image-contrast`. The image is computed from d, so f sees at least as much as in `image-contrast`,
    and chains do not run the image head.

    Example:
        >>> from hebm import ImageSpec, Noise, NVAETiny
        >>> backbone = NVAETiny().build(ImageSpec(1, 32, 32))
        >>> prior = FeatureContrast().build(backbone)
        >>> prior.sample(backbone, 4, Noise(0)).u.shape[0]
        4
    """

    energy: EnergyRecipe = option(factory=FeatureConv, doc="log r of a stage; it should start at 0")
