"""Recipes of the published sizes."""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm_plugins.two_layer.recipe import TwoLayer


@recipe
class TwoLayerJoint(TwoLayer):
    """`two-layer` with the joint EBM's published nets for 32×32 images (arXiv 2306.06323), 19.1 M parameters.

    z has 100 and 128 dimensions. The generator has 1024, 512 and 256 channels after a first kernel of 8, and ends with
    a convolution with kernel 3 and stride 1. p(z_1|z_2) has 4 hidden layers of 200 units. The pixels' σ is 0.3. There
    is no inference model.

    Example:
        >>> TwoLayerJoint().z_dims
        (100, 128)
    """

    z_dims: tuple[int, ...] = option((100, 128), doc="size of each latent layer, top first", low=1)
    widths: tuple[int, ...] = option((1024, 512, 256), doc="channels of the generator, from z_1 to the image", low=1)
    head: str = option("conv", doc="last conv layer: k3 s1 or k4 s2", choices=("conv", "upsample"))
    prior_width: int = option(200, doc="hidden units of p(z_i|z_{i+1})", low=1)
    prior_depth: int = option(4, doc="hidden layers of p(z_i|z_{i+1})", low=1, high=1000)
    log_sigma_bound: float = option(0.0, doc="soft bound of log σ of p(z_i|z_{i+1}), 0 for none", low=0)
    inference: str = option("none", doc="inference model q(z|x)", choices=("top-down", "bottom-up", "none"))


@recipe
class TwoLayerMultiStage(TwoLayer):
    """`two-layer` with the multi-stage paper's nets for joint learning on 32×32 images (its Table 11).

    z has 100 and 100 dimensions. The generator has 512, 256 and 128 channels after a first kernel of 4, and ends with a
    transposed convolution with kernel 4 and stride 2. p(z_1|z_2) has 4 hidden layers of 256 units. There is no
    inference model.

    Example:
        >>> TwoLayerMultiStage().z_dims
        (100, 100)
    """

    z_dims: tuple[int, ...] = option((100, 100), doc="size of each latent layer, top first", low=1)
    widths: tuple[int, ...] = option((512, 256, 128), doc="channels of the generator, from z_1 to the image", low=1)
    prior_width: int = option(256, doc="hidden units of p(z_i|z_{i+1})", low=1)
    prior_depth: int = option(4, doc="hidden layers of p(z_i|z_{i+1})", low=1, high=1000)
    log_sigma_bound: float = option(0.0, doc="soft bound of log σ of p(z_i|z_{i+1}), 0 for none", low=0)
    inference: str = option("none", doc="inference model q(z|x)", choices=("top-down", "bottom-up", "none"))
