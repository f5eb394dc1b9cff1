"""The residual convolutional energy of the multi-stage density-ratio prior (Table 10 of its paper)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hebm.config.recipes import option, recipe
from hebm.interfaces import EnergyRecipe
from hebm.latents import LatentLayout
from hebm_plugins.energies.coordinates import COORDINATE_DOC, COORDINATES, seen_shapes
from hebm_plugins.energies.layerwise import LayerwiseEnergy, expect_one_level, last_of, started
from hebm_plugins.energies.maps import Shape, cells, expect_maps, halvings_to


class HalvingBlock(nn.Module):
    """C_3(silu(C_4(silu(x)))) + C_4'(x), where C_4 and C_4' halve the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(channels, channels, 4, 2, 1)
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, channels, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps `(B, ch, H/2, W/2)` of x `(B, ch, H, W)`."""
        y: Tensor = self.smooth(F.silu(self.halve(F.silu(x)))) + self.shortcut(x)
        return y


class PlainBlock(nn.Module):
    """x + C(silu(x)), or x + C'(silu(C(silu(x)))) with two convolutions 3×3."""

    def __init__(self, channels: int, convolutions: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convolutions))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape, of x `(B, ch, H, W)`."""
        inner = x
        for conv in self.convs:
            inner = conv(F.silu(inner))
        return x + inner


class DenseBlock(nn.Module):
    """W_2 silu(W_1 silu(x)) + x, or + W_3 x where the number of features changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, outputs)
        self.second = nn.Linear(outputs, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return features `(B, outputs)` of x `(B, inputs)`."""
        y: Tensor = self.second(F.silu(self.first(F.silu(x)))) + self.shortcut(x)
        return y


@recipe
class ConvResidual(EnergyRecipe):
    """log r(z) = Σ_i f_i(z_i), one residual net per spatial layer, as in the multi-stage prior's two-phase experiments.

    Each net has a 3×3 convolution; then, until the map is 4×4, one block that halves it and `blocks` blocks that do
    not; then `dense_blocks` blocks on the flat features, silu and a linear layer. Maps of 4×4 or less are not halved.
    Odd sides are rounded down (7 → 3).

    Table 10 of the paper is inconsistent or silent in places:

    | the table | here |
    |---|---|
    | a 4×4 map of 64 channels, although `channels` = 128 leaves 128 | 128 channels |
    | a block's second convolution only "if in != out or downsample" | `convolutions = 2`, as usual; 1 is the table's |
    | the input is u, although r acts on z | `coordinate` |
    | nothing about biases and normalisation | all layers have biases, and no weight is normalised |

    The shortcut of a halving block has no activation.

    Example:
        >>> from hebm import ImageSpec, NVAETiny
        >>> backbone = NVAETiny().build(ImageSpec(1, 32, 32))
        >>> energy = ConvResidual(channels=8, width=16, blocks=1, dense_blocks=1).build(backbone.layout)
        >>> len(energy.nets) == len(backbone.layout)
        True
    """

    channels: int = option(128, doc="channels of every convolution (nef in the paper's table)", low=1)
    width: int = option(256, doc="features of the dense blocks (ndf in the paper's table)", low=1)
    blocks: int = option(8, doc="residual blocks after each halving (res-layer in the paper's table)", low=0, high=1000)
    convolutions: int = option(2, doc="convolutions in each residual block that does not halve", choices=(1, 2))
    dense_blocks: int = option(8, doc="residual blocks after the convolutions", low=1, high=1000)
    smallest: int = option(4, doc="halve until the longer side is at most this", low=1)
    coordinate: str = option("z", doc=COORDINATE_DOC, choices=COORDINATES)
    zero_init: bool = option(True, doc="start at f = 0, so that a stage starts at r = 1")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> LayerwiseEnergy:
        """Build a net for each layer of this layout.

        Raises `ConfigError` for a layer that is not a map, and for more than one level.
        """
        expect_one_level(levels, "conv-residual")
        expect_maps(layout, "conv-residual", instead="mlp")
        nets = [self._net(shape, logits) for shape in seen_shapes(layout, self.coordinate)]
        for net in nets:
            started(last_of(net), self.zero_init)
        return LayerwiseEnergy(nets, self.coordinate, layout)

    def _net(self, shape: Shape, logits: int) -> nn.Sequential:
        """Build the net of a map `(c, h, w)`."""
        n = halvings_to(shape, self.smallest)
        layers: list[nn.Module] = [nn.Conv2d(shape[0], self.channels, 3, padding=1)]
        for _ in range(n):
            layers.append(HalvingBlock(self.channels))
            layers += [PlainBlock(self.channels, self.convolutions) for _ in range(self.blocks)]
        layers.append(nn.Flatten())
        sizes = [self.channels * cells(shape, n), *[self.width] * (self.dense_blocks - 1)]
        layers += [DenseBlock(size, self.width) for size in sizes]
        return nn.Sequential(*layers, nn.SiLU(), nn.Linear(self.width, logits))
