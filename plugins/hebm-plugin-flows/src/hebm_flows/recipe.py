"""The recipes of the priors: one flow over all of u, or one conditional flow for each layer."""

from __future__ import annotations

import math

from hebm import PCNMALA, ConfigError, Gaussian, option, recipe
from hebm.interfaces import Backbone, LatentLayout, PriorRecipe, Sampler, build_root

from hebm_flows.bijection import KINDS, Bijection, FlowShape
from hebm_flows.conditions import Above, Condition, Feature, FeatureMap, Nothing
from hebm_flows.factors import Factor, Factors
from hebm_flows.prior import FlowPrior

_WIDE = "use a smaller width, or passes = 2"
_LARGE = f'use condition = "features" with spatial = "positions"; or {_WIDE}'


@recipe
class Flow(PriorRecipe):
    """p(u), one autoregressive flow over all latents u: a density without chains, energies or noise levels.

    Training maximises log p(u) of posterior draws, and a draw is exact. The density is normalised, so the metric
    `likelihood` needs no estimate of log Z. The flow is fully connected; for a hierarchy with many latents use
    `layer-flow`.

    Example:
        >>> from hebm import ImageSpec, Noise, TwoLayer
        >>> backbone = TwoLayer(z_dims=(2, 8)).build(ImageSpec(1, 28, 28))
        >>> prior = Flow(width=32).build(backbone)
        >>> prior.sample(backbone, 4, Noise(0)).u.shape
        torch.Size([4, 10])
    """

    kind: str = option(
        "spline",
        doc="map of each number: a rational-quadratic spline on [-5, 5] (neural spline flow), or affine (MAF)",
        choices=KINDS,
    )
    transforms: int = option(3, doc="autoregressive transforms, in alternating order of u", low=1)
    width: int = option(256, doc="units of every hidden layer of a transform's net", low=1)
    depth: int = option(2, doc="hidden layers of a transform's net", low=1)
    bins: int = option(8, doc="spline: bins between -5 and 5", low=2)
    passes: int | None = option(
        None,
        doc="passes of a transform's net in a draw; 2 couples two halves of u; left out: one pass for each number, "
        "which fits better",
        low=2,
    )
    max_weights: int = option(
        50_000_000, doc="largest number of weights of one flow; a larger one is an error before training", low=1
    )
    sampler: Sampler = option(
        factory=lambda: PCNMALA(steps=100, step_size=0.2),
        doc="the chain that draws the other coordinates if a request fixes some of u; other draws need no chain",
    )
    root: PriorRecipe = option(factory=Gaussian, doc="the prior that draws the context, with u ~ N(0, I) given it")

    def build(self, backbone: Backbone) -> FlowPrior:
        """Build the prior. Raises `ConfigError` if the root does not fit, or u is too large for a connected flow."""
        layout = backbone.layout
        return FlowPrior(build_root(self.root, backbone), Factors(self._factors(layout)), layout, self.sampler)

    def _factors(self, layout: LatentLayout) -> list[Factor]:
        self._shape().check(layout.dim, 0, "all latents u", f'use prior.type = "layer-flow"; or {_WIDE}')
        return [Factor("prior", slice(0, layout.dim), Bijection(self._shape(), layout.dim), Nothing())]

    def _shape(self) -> FlowShape:
        return FlowShape(self.kind, self.transforms, self.width, self.depth, self.bins, self.passes, self.max_weights)


@recipe
class LayerFlow(Flow):
    """p(u) = Π_i p(u_i | c_i(z_above)), one conditional flow for each layer, for deep hierarchies.

    | `condition` | c_i |
    |---|---|
    | `"features"` | a net of the decoder's feature from which p(z_i given z_above) is computed |
    | `"above"` | a perceptron of u of all layers above |

    With `spatial = "positions"`, one flow over the channels of a spatial layer serves every position, given the feature
    around this position. Such a flow is small whatever the size of the layer. It knows no dependence between the
    positions of a layer beyond that in the layers above. `spatial = "whole"` has one flow over all numbers of a layer.

    Example:
        >>> from hebm import ImageSpec, Noise, TwoLayer
        >>> backbone = TwoLayer(z_dims=(2, 8)).build(ImageSpec(1, 28, 28))
        >>> prior = LayerFlow(width=32).build(backbone)
        >>> [transition.name for transition in prior.transitions(backbone)]
        ['layer 0', 'layer 1']
    """

    condition: str = option("features", doc="what the flow of a layer is conditioned on", choices=("features", "above"))
    spatial: str = option(
        "positions",
        doc="spatial layers, with features: a flow over the channels of each position, or over the whole layer",
        choices=("positions", "whole"),
    )
    condition_width: int = option(64, doc="numbers of c, and hidden units of the net that computes c", low=1)
    dropout: float = option(0.1, doc="dropout rate of that net, in training only", low=0, high=0.99)

    def _factors(self, layout: LatentLayout) -> list[Factor]:
        if self.condition == "features" and not layout.features:
            raise ConfigError(
                'prior.condition: this backbone does not show the decoder\'s features; use condition = "above", or '
                'prior.type = "flow"'
            )
        return [self._factor(layout, layer) for layer in range(len(layout))]

    def _factor(self, layout: LatentLayout, layer: int) -> Factor:
        shape = layout.shapes[layer]
        mapped = self.condition == "features" and self.spatial == "positions" and len(shape) == 3
        condition = self._map(layout, layer) if mapped else self._whole(layout, layer)
        dim, context = shape[0] if mapped else math.prod(shape), condition.width
        what = f"the channels of layer {layer}" if mapped else f"layer {layer}"
        self._shape().check(dim, context, what, _LARGE if len(shape) == 3 and not mapped else _WIDE)
        bijection = Bijection(self._shape(), dim, context)
        return Factor(f"layer {layer}", layout.place(layer), bijection, condition, shape if mapped else None)

    def _map(self, layout: LatentLayout, layer: int) -> Condition:
        _, height, width = layout.shapes[layer]
        return FeatureMap(layer, layout.features[layer], (height, width), self.condition_width, self.dropout)

    def _whole(self, layout: LatentLayout, layer: int) -> Condition:
        if self.condition == "features":
            return Feature(layer, layout.features[layer], self.condition_width, self.dropout)
        above = slice(0, layout.place(layer).start)
        return Above(above, self.condition_width, self.dropout) if above.stop else Nothing()
