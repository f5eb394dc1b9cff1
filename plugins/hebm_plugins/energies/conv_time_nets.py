"""The two published convolutional nets of the diffusion-learned prior (arXiv 2405.13910), for maps of 2×2 or more.

e are the sinusoids of t and s = silu(time net of e). No map has a bias; every convolution has padding 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from hebm_plugins.energies.conv_time_folding import FoldedHead, FoldedPlain, FoldedResidual
from hebm_plugins.energies.layerwise_time import TimeNet
from hebm_plugins.energies.maps import Shape, cells
from hebm_plugins.energies.spectral_norm import ConvMap, LinearMap
from hebm_plugins.energies.time_embedding import SINUSOIDS, TimeMLP
from hebm_plugins.module_lists import ModuleList


def halvings(shape: Shape, end: int) -> int:
    """Return how often a map `(c, h, w)` is halved: until its longer side is below 2 `end`, and at least once.

    Halving stops before a side becomes 0, so the result is 0 for a map with a side of 1.
    """
    longer, shorter = max(shape[1:]), min(shape[1:])
    return min(max(1, longer.bit_length() - end.bit_length()), shorter.bit_length() - 1)


class HalvingBlock(nn.Module):
    """C_3(silu(C_4(x) + W s)) + C_4'(x), after silu(x) if `activate`; C_4 and C_4' halve the map."""

    def __init__(self, inputs: int, outputs: int, spectral: bool, activate: bool) -> None:
        super().__init__()
        self.activate = activate
        self.halve = ConvMap(inputs, outputs, 4, 2, spectral)
        self.time = LinearMap(SINUSOIDS, outputs, spectral)
        self.smooth = ConvMap(outputs, outputs, 3, 1, spectral)
        self.shortcut = ConvMap(inputs, outputs, 4, 2, spectral)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Return maps of half the size, of x `(B, c, H, W)` and time features s `(B, 128)`."""
        x = F.silu(x) if self.activate else x
        y: Tensor = self.smooth(F.silu(self.halve(x) + self.time(s)[:, :, None, None])) + self.shortcut(x)
        return y


class DenseBlock(nn.Module):
    """W_2 silu(W_1 silu(x) + W_t s) + W_3 silu(x), half as many features."""

    def __init__(self, inputs: int, outputs: int, spectral: bool) -> None:
        super().__init__()
        self.first = LinearMap(inputs, outputs, spectral)
        self.time = LinearMap(SINUSOIDS, outputs, spectral)
        self.second = LinearMap(outputs, outputs, spectral)
        self.shortcut = LinearMap(inputs, outputs, spectral)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Return features `(B, outputs)` of x `(B, inputs)` and time features s `(B, 128)`."""
        x = F.silu(x)
        y: Tensor = self.second(F.silu(self.first(x) + self.time(s))) + self.shortcut(x)
        return y


class DenseHead(nn.Module):
    """Two dense blocks, H → H/2 → H/4, and W silu(x): one or more logits."""

    def __init__(self, features: int, logits: int, spectral: bool) -> None:
        super().__init__()
        sizes = [max(1, features // divisor) for divisor in (1, 2, 4)]
        self.blocks = ModuleList(DenseBlock(sizes[i], sizes[i + 1], spectral) for i in range(2))
        self.out = LinearMap(sizes[2], logits, spectral)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Return logits `(B, K)` of features x `(B, H)` and time features s `(B, 128)`."""
        for block in self.blocks:
            x = block(x, s)
        logits: Tensor = self.out(F.silu(x))
        return logits


class ResidualNet(TimeNet):
    """The CIFAR-10 net: a shift of the input channels by t, residual blocks down to 2×2, and two dense blocks.

    Arguments:
        shape: shape of the layer, `(c, h, w)`, with sides of at least 2.
        channels: channels of every convolution.
        logits: K, the number of outputs.
        spectral: normalise every weight.
    """

    def __init__(self, shape: Shape, channels: int, logits: int, spectral: bool) -> None:
        super().__init__()
        n = halvings(shape, 2)
        self.shift, self.time = TimeMLP(shape[0], spectral), TimeMLP(SINUSOIDS, spectral)
        inputs = [shape[0], *[channels] * (n - 1)]
        self.blocks = ModuleList(HalvingBlock(c, channels, spectral, i > 0) for i, c in enumerate(inputs))
        self.head = DenseHead(channels * cells(shape, n), logits, spectral)

    def forward(self, z: Tensor, e: Tensor) -> Tensor:
        """Return f `(B, K)` of z `(B, c, h, w)` and sinusoids e `(B, 128)`."""
        x, s = z + self.shift(e)[:, :, None, None], F.silu(self.time(e))
        for block in self.blocks:
            x = block(x, s)
        f: Tensor = self.head(x.flatten(1), s)
        return f

    @classmethod
    def fold(cls, nets: Sequence[ResidualNet], e: Tensor) -> FoldedResidual:
        """Fold S nets of one shape, at the levels that e stands for."""
        features = [F.silu(net.time(e)) for net in nets]
        head = FoldedHead([net.head for net in nets], features)
        return FoldedResidual([net.shift(e) for net in nets], [net.blocks for net in nets], features, head)


class PlainNet(TimeNet):
    """The CelebA-HQ-256 net: convolutions down to 4×4, then two dense blocks. Only the dense blocks see t.

    Arguments:
        shape: shape of the layer, `(c, h, w)`, with sides of at least 2.
        channels: channels of every convolution.
        logits: K, the number of outputs.
        spectral: normalise every weight.
    """

    def __init__(self, shape: Shape, channels: int, logits: int, spectral: bool) -> None:
        super().__init__()
        n = halvings(shape, 4)
        self.time = TimeMLP(SINUSOIDS, spectral)
        inputs = [shape[0], *[channels] * (n - 1)]
        self.convs = ModuleList(ConvMap(c, channels, 4, 2, spectral) for c in inputs)
        self.head = DenseHead(channels * cells(shape, n), logits, spectral)

    def forward(self, z: Tensor, e: Tensor) -> Tensor:
        """Return f `(B, K)` of z `(B, c, h, w)` and sinusoids e `(B, 128)`."""
        x = self.convs[0](z)
        for conv in self.convs[1:]:
            x = conv(F.silu(x))
        f: Tensor = self.head(x.flatten(1), F.silu(self.time(e)))
        return f

    @classmethod
    def fold(cls, nets: Sequence[PlainNet], e: Tensor) -> FoldedPlain:
        """Fold S nets of one shape, at the levels that e stands for."""
        head = FoldedHead([net.head for net in nets], [F.silu(net.time(e)) for net in nets])
        return FoldedPlain([net.convs for net in nets], head)
