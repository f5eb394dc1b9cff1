"""The published sizes, as recipes of their own names."""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm_plugins.two_layer.recipe import TwoLayer


@recipe
class TwoLayerJoint(TwoLayer):
    """The joint EBM's published nets for 32×32 (arXiv 2306.06323): z 100 and 128, 19.1 M parameters.

    Generator k8 → 1024 → 512 → 256 → 3 with k3 s1 at the end; p(z_1|z_2) 4 × 200; pixel σ 0.3; no inference model.
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
    """The multi-stage paper's joint-learning nets for 32×32 (its Table 11): z 100 and 100.

    Generator k4 → 512 → 256 → 128 → 3 with k4 s2 at the end; p(z_1|z_2) 4 × 256; no inference model.
    """

    z_dims: tuple[int, ...] = option((100, 100), doc="size of each latent layer, top first", low=1)
    widths: tuple[int, ...] = option((512, 256, 128), doc="channels of the generator, from z_1 to the image", low=1)
    prior_width: int = option(256, doc="hidden units of p(z_i|z_{i+1})", low=1)
    prior_depth: int = option(4, doc="hidden layers of p(z_i|z_{i+1})", low=1, high=1000)
    log_sigma_bound: float = option(0.0, doc="soft bound of log σ of p(z_i|z_{i+1}), 0 for none", low=0)
    inference: str = option("none", doc="inference model q(z|x)", choices=("top-down", "bottom-up", "none"))
