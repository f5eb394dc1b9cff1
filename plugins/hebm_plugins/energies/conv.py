"""The convolutional energy of the joint EBM on a frozen hierarchical VAE."""

from __future__ import annotations

from torch import nn

from hebm.config.recipes import option, recipe
from hebm.interfaces import EnergyRecipe
from hebm.latents import LatentLayout
from hebm_plugins.energies.coordinates import COORDINATE_DOC, COORDINATES, seen_shapes
from hebm_plugins.energies.layerwise import LayerwiseEnergy, expect_one_level, last_of, started
from hebm_plugins.energies.maps import Shape, cells, expect_maps, halvings_to

_SMALLEST = 4


def conv_net(shape: Shape, channels: int, width: int, logits: int) -> nn.Sequential:
    """Build n convolutions that halve a map to 4×4, then n hidden linear layers, with biases and LeakyReLU 0.2.

    Arguments:
        shape: shape of the map, `(c, h, w)`; n = log₂(h/4).
        channels: channels of every convolution.
        width: units of every hidden linear layer. There is at least one such layer, even for a small map.
        logits: K, the number of outputs.
    """
    n = halvings_to(shape, _SMALLEST)
    layers: list[nn.Module] = []
    for inputs in [shape[0], *[channels] * (n - 1)][:n]:
        layers += [nn.Conv2d(inputs, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
    layers.append(nn.Flatten())
    flat = (channels if n else shape[0]) * cells(shape, n)
    for inputs in [flat, *[width] * (n - 1)]:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, logits))


@recipe
class Conv(EnergyRecipe):
    """f(z) = Σ_i f_i(z_i), one convolutional net per spatial layer (arXiv 2306.06323, two-stage on a frozen NVAE).

    The defaults are those of the published code: log₂(h/4) halving convolutions, as many linear layers, and PyTorch's
    initial weights. That code supports sides of 8, 16, …, 128. Here smaller maps are not halved, and other sides are
    halved until they are 4 or less. For a multi-stage prior set `zero_init = true`, so that a stage starts at r = 1.

    Example:
        >>> from hebm import ImageSpec, Joint, NVAETiny
        >>> backbone = NVAETiny().build(ImageSpec(1, 32, 32))
        >>> len(Conv(channels=8).build(backbone.layout).nets) == len(backbone.layout)
        True
    """

    channels: int = option(64, doc="channels of every convolution", low=1)
    width: int = option(200, doc="units of every hidden linear layer", low=1)
    coordinate: str = option("z", doc=COORDINATE_DOC, choices=COORDINATES)
    zero_init: bool = option(False, doc="start at f = 0, where the prior is its root")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> LayerwiseEnergy:
        """Build a net for each layer of this layout.

        Raises `ConfigError` for a layer that is not a map, and for more than one level.
        """
        expect_one_level(levels, "conv")
        expect_maps(layout, "conv", instead="mlp")
        shapes = seen_shapes(layout, self.coordinate)
        nets = [conv_net(shape, self.channels, self.width, logits) for shape in shapes]
        for net in nets:
            started(last_of(net), self.zero_init)
        return LayerwiseEnergy(nets, self.coordinate, layout)
