"""Energies of each layer together with the decoder's feature from which the layer's prior is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hebm.config.recipes import option, recipe
from hebm.interfaces import EnergyFn, EnergyRecipe
from hebm.latents import LatentLayout
from hebm.tilts import expect_shown
from hebm_plugins.energies.coordinates import COORDINATE_DOC, COORDINATES, seen_shapes, sees, with_feature
from hebm_plugins.energies.image_conv import PENALTY_DOC
from hebm_plugins.energies.layerwise import LayerwiseEnergy, last_of, started
from hebm_plugins.energies.layerwise_time import LayerwiseTimeEnergy
from hebm_plugins.energies.mlp import ACTIVATIONS, mlp, per_layer
from hebm_plugins.energies.mlp_time import MLPTimeNet


@recipe
class FeatureMLP(EnergyRecipe):
    """f(z) = Σ_i MLP_i([z_i, feature_i]), one perceptron per layer, with the decoder's feature at that layer.

    p(z_i | z_above) is computed from this feature, so f_i sees how well a layer fits the layers above. In the diffusion
    prior the level t is added to every hidden layer, as in `mlp-time`. For NVAE the features are maps of the decoder's
    top-down pass. For `two-layer` and `hvae`, where a layer depends only on the one above, they are that layer.

    Example:
        >>> from hebm import ImageSpec, TwoLayer
        >>> layout = TwoLayer(z_dims=(2, 8)).build(ImageSpec(1, 28, 28)).layout
        >>> len(FeatureMLP(width=16).build(layout).nets)
        2
    """

    width: int | tuple[int, ...] = option(128, doc="units of every hidden layer; one number or one per layer", low=1)
    depth: int | tuple[int, ...] = option(
        2, doc="hidden layers; one number or one per latent layer, top first", low=1, high=1000
    )
    activation: str = option(
        "silu", doc="activation between layers (leaky-relu has slope 0.2)", choices=tuple(ACTIVATIONS)
    )
    coordinate: str = option("z", doc=f"with the feature, {COORDINATE_DOC}", choices=COORDINATES)
    dropout: float = option(0.0, doc="dropout rate of every hidden layer, in training only", low=0, high=0.99)
    gradient_penalty: float = option(0.0, doc=PENALTY_DOC, low=0)
    zero_init: bool = option(True, doc="start at f = 0, where the prior is its root")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> EnergyFn:
        """Build a net for each layer. Raises `ConfigError` if the backbone does not show its decoder's features."""
        coordinate = with_feature(self.coordinate)
        expect_shown(layout, sees(coordinate))
        widths = per_layer(self.width, len(layout), "prior.energy.width")
        depths = per_layer(self.depth, len(layout), "prior.energy.depth")
        inputs = [math.prod(shape) for shape in seen_shapes(layout, coordinate)]
        sizes = [*zip(inputs, widths, depths, strict=True)]
        return (self._timeless if levels == 1 else self._timed)(sizes, coordinate, layout, logits)

    def _timeless(
        self, sizes: Sequence[tuple[int, int, int]], coordinate: str, layout: LatentLayout, logits: int
    ) -> LayerwiseEnergy:
        nets = [mlp((size, *(width,) * depth, logits), self.activation, self.dropout) for size, width, depth in sizes]
        for net in nets:
            started(last_of(net), self.zero_init)
        return LayerwiseEnergy(nets, coordinate, layout, flat=True, gradient_penalty=self.gradient_penalty)

    def _timed(
        self, sizes: Sequence[tuple[int, int, int]], coordinate: str, layout: LatentLayout, logits: int
    ) -> LayerwiseTimeEnergy:
        nets = [MLPTimeNet(*size, logits, self.activation, False, self.dropout) for size in sizes]
        for net in nets:
            started(net.out, self.zero_init)
        return LayerwiseTimeEnergy(nets, coordinate, layout, together=True, gradient_penalty=self.gradient_penalty)
