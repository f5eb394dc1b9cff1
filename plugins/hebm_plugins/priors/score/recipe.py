"""The recipe of the layer-wise score prior."""

from __future__ import annotations

import math

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import Backbone, PriorRecipe, build_root
from hebm_plugins.energies.mlp import ACTIVATIONS, per_layer
from hebm_plugins.priors.score.conv_denoiser import ConvDenoiser
from hebm_plugins.priors.score.denoiser import Denoiser, Denoisers, Shape
from hebm_plugins.priors.score.mlp_denoiser import MLPDenoiser
from hebm_plugins.priors.score.prior import ScorePrior


@recipe
class Score(PriorRecipe):
    """p(u) = Π_i p(u_i | feature_i(z_above)), a diffusion per layer: LSGM's prior (arXiv 2106.05931), layer by layer.

    With u_t = α_t u_0 + σ_t ε, α_t = cos(πt/2), σ_t = sin(πt/2), one net per layer gives n_i in

        E[u_0 | u_t, feature_i] = α_t u_t + σ_t² n_i(u_t, t, feature_i)

    where feature_i is the decoder's feature from which p(z_i | z_above) is computed. This prior is not an energy and
    has no density. Its draws are ancestral, `steps` steps per layer, and take milliseconds: each layer costs one pass
    of the decoder without the image.

    n_i starts at 0, where the prior is exactly N(0, I). Its target is E[u_0 | u_t, x] in closed form, from the mean and
    standard deviation of q(u_i | x, z_above). If the backbone does not have them (flows, bottom-up inference), the
    target is u_0. Minus the loss is the gain over N(0, I) in the bound on KL(q ‖ p), in nats.

    With `net = "conv"`, spatial layers have small U-nets and flat layers perceptrons. On a small NVAE, U-nets gain
    several times as much on held-out images as perceptrons, which overfit the features of the training images.

    If coordinates are fixed, the draw of a layer depends on the fixed coordinates in this layer and above, but not on
    those below.

    Example:
        >>> from hebm import ImageSpec, Noise, TwoLayer
        >>> backbone = TwoLayer(z_dims=(2, 8)).build(ImageSpec(1, 28, 28))
        >>> prior = Score(steps=5).build(backbone)
        >>> prior.sample(backbone, 4, Noise(0)).u.shape
        torch.Size([4, 10])
    """

    net: str = option(
        "conv", doc="net of spatial layers: a U-net, or a perceptron as for flat layers", choices=("conv", "mlp")
    )
    channels: int = option(32, doc="U-net: channels of every convolution", low=1)
    blocks: int = option(2, doc="U-net: residual blocks on its smallest map, with sides of at most 4", low=0, high=1000)
    width: int | tuple[int, ...] = option(
        256, doc="perceptron: units of every hidden layer; one number or one per latent layer", low=1
    )
    depth: int | tuple[int, ...] = option(
        2, doc="perceptron: hidden layers; one number or one per latent layer, top first", low=1, high=1000
    )
    activation: str = option("silu", doc="perceptron: activation between layers", choices=tuple(ACTIVATIONS))
    dropout: float = option(0.1, doc="dropout rate of every hidden layer, in training only", low=0, high=0.99)
    steps: int = option(50, doc="T, steps per layer of a draw; `hebm sample --steps` sets another number", low=1)
    root: PriorRecipe = option(factory=Gaussian, doc="the prior that draws the context, with u ~ N(0, I) given it")

    def build(self, backbone: Backbone) -> ScorePrior:
        """Build the prior. Raises `ConfigError` if the backbone shows no features, or the context does not fit."""
        layout = backbone.layout
        if not layout.features:
            raise ConfigError(
                'prior: "score" needs the decoder\'s feature at each layer, and this backbone does not show features; '
                'use backbone.type = "nvae", "nvae-tiny", "hvae" or "two-layer", or prior.type = "diffusion"'
            )
        root = build_root(self.root, backbone)
        widths = per_layer(self.width, len(layout), "prior.width")
        depths = per_layer(self.depth, len(layout), "prior.depth")
        layers = zip(layout.shapes, layout.features, widths, depths, strict=True)
        return ScorePrior(root, Denoisers([self._net(*layer) for layer in layers]), layout, self.steps)

    def _net(self, shape: Shape, feature: Shape, width: int, depth: int) -> Denoiser:
        if self.net == "conv" and len(shape) == 3:
            return ConvDenoiser(shape, feature, self.channels, self.blocks, self.dropout)
        return MLPDenoiser(math.prod(shape), feature, width, depth, self.activation, self.dropout)
