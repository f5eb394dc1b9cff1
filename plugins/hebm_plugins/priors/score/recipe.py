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
    """A diffusion of each layer given the decoder's feature there: LSGM's prior (arXiv 2106.05931), layer by layer.

    Not an energy: it has no density, and ancestral draws of `steps` per layer take milliseconds. With
    u_t = α_t u_0 + σ_t ε, α_t = cos(πt/2), σ_t = sin(πt/2), a net per layer gives n_i in

        E[u_0 | u_t, feature_i] = α_t u_t + σ_t² n_i(u_t, t, feature_i)

    where feature_i is what the decoder computes p(z_i | z_above) from. n_i starts at 0, which is N(0, I) exactly, and
    learns E[u_0 | u_t, x] in closed form from the mean and deviation of q(u_i | x, z_above); where the backbone does
    not know them (flows, bottom-up inference), it learns from u_0 itself. The negative loss is the gain over N(0, I) in
    the bound on KL(q ‖ p), in nats. Each layer costs one pass of the decoder, without the image.

    With `net = "conv"`, a layer that is a map has a small U-net and a flat one a perceptron. On a small NVAE the U-nets
    gain several times as much on held-out images as perceptrons, which overfit the features of the training images.

    Of fixed coordinates, those of the layer itself and above guide the draw of a layer; those below do not.
    """

    net: str = option(
        "conv", doc='of layers that are maps: a U-net, or "mlp" as for flat layers', choices=("conv", "mlp")
    )
    channels: int = option(32, doc="U-net: of every convolution", low=1)
    blocks: int = option(2, doc="U-net: residual blocks on its smallest map, with sides of at most 4", low=0, high=1000)
    width: int | tuple[int, ...] = option(
        256, doc="perceptron: units of every hidden layer; one number or one per latent layer", low=1
    )
    depth: int | tuple[int, ...] = option(
        2, doc="perceptron: hidden layers; one number or one per latent layer, top first", low=1, high=1000
    )
    activation: str = option("silu", doc="perceptron: activation between layers", choices=tuple(ACTIVATIONS))
    dropout: float = option(0.1, doc="of every hidden layer, in training only", low=0, high=0.99)
    steps: int = option(50, doc="T, steps of a draw per layer; `hebm sample --steps` takes another number", low=1)
    root: PriorRecipe = option(factory=Gaussian, doc="draws the context; u ~ N(0, I) given it")

    def build(self, backbone: Backbone) -> ScorePrior:
        """Build the prior. Raises `ConfigError` for a backbone that shows no features, or another root's context."""
        layout = backbone.layout
        if not layout.features:
            raise ConfigError(
                'prior: "score" denoises each layer given the decoder\'s feature there, and this backbone shows none; '
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
