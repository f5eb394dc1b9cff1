"""The parts of a cell: convolution ops, named as in the published architectures, and squeeze-and-excitation."""

from __future__ import annotations

import re

from torch import Tensor, nn
from torch.nn import functional as F

from hebm.errors import ConfigError
from hebm_plugins.fast_convolutions import Conv2d
from hebm_plugins.fast_elu import ELU
from hebm_plugins.nvae.batch_norm import BatchNorm
from hebm_plugins.nvae.convolutions import WNConv2d

UP = -1
"""The stride of an op that doubles the resolution."""
RESIDUAL_SCALE = 0.1
"""The weight of a cell's branch."""


class ConvOp(nn.Module):
    """[BatchNorm →] activation → [nearest × 2] → weight-normalised 3×3 convolution.

    Arguments:
        inputs, outputs: channels.
        stride: 1, 2 or `UP`.
        activation: an elementwise module.
        normalise: start with BatchNorm.
        dilation: dilation of the convolution; with 2 it sees 5×5 pixels.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: nn.Module, normalise: bool = True, dilation: int = 1
    ) -> None:
        super().__init__()
        self.upsample = stride == UP
        self.norm = BatchNorm(inputs) if normalise else nn.Identity()
        self.activation = activation
        self.conv: nn.Conv2d = WNConv2d(inputs, outputs, 3, abs(stride), dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, I, H, W)` to `(B, O, H', W')`."""
        x = self.activation(self.norm(x))
        y: Tensor = self.conv(nearest(x) if self.upsample else x)
        return y


class InvertedBottleneck(nn.Module):
    """[nearest × 2] → BN → 1×1 → BN → SiLU → K×K by groups → BN → SiLU → 1×1 → BN; the convolutions are plain.

    Up-sampling commutes with everything before the K×K convolution, so it is done there, at a quarter of the cost.

    Arguments:
        inputs, outputs: channels.
        stride: 1, 2 or `UP`.
        expansion: inner channels, in units of `inputs`.
        size: K.
        groups: groups of the K×K convolution; 0 for one per inner channel.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, size: int, groups: int) -> None:
        super().__init__()
        inner = expansion * inputs
        groups = groups or inner
        if inner % groups:
            raise ConfigError(f"backbone.architecture: {inner} inner channels do not divide into {groups} groups")
        self.upsample = stride == UP
        self.norm = BatchNorm(inputs)
        self.expand = Conv2d(inputs, inner, 1, bias=False)
        self.expand_norm = BatchNorm(inner)
        self.spatial = Conv2d(inner, inner, size, abs(stride), (size - 1) // 2, groups=groups, bias=False)
        self.spatial_norm = BatchNorm(inner)
        self.project = Conv2d(inner, outputs, 1, bias=False)
        self.project_norm = BatchNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, I, H, W)` to `(B, O, H', W')`."""
        copies = 4 if self.upsample else 1
        x = F.silu(self.expand_norm(self.expand(self.norm(x, copies)), copies))
        x = F.silu(self.spatial_norm(self.spatial(nearest(x) if self.upsample else x)))
        y: Tensor = self.project_norm(self.project(x))
        return y


class SqueezeExcite(nn.Module):
    """x · sigmoid(W_2 relu(W_1 mean_hw(x) + b_1) + b_2), with max(C / 16, 4) hidden units.

    Arguments:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.squeeze, self.excite = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of x `(B, C, H, W)`."""
        scale = self.excite(F.relu(self.squeeze(x.mean((2, 3))))).sigmoid()
        scaled: Tensor = x * scale[:, :, None, None]
        return scaled


def nearest(x: Tensor) -> Tensor:
    """Repeat every pixel four times, `(B, C, 2H, 2W)`."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def make_op(name: str, inputs: int, outputs: int, stride: int) -> ConvOp | InvertedBottleneck:
    """Build the op of a published name: res_elu, res_bnelu, res_bnswish, res_bnswish5, or mconv_e{E}k{K}g{groups}.

    Raises `ConfigError` for channels that do not divide into an op's groups.
    """
    bottleneck = re.fullmatch(r"mconv_e(\d+)k(\d+)g(\d+)", name)
    if bottleneck:
        expansion, size, groups = map(int, bottleneck.groups())
        return InvertedBottleneck(inputs, outputs, stride, expansion, size, groups)
    elu = "elu" in name
    activation: nn.Module = ELU() if elu else nn.SiLU()
    return ConvOp(inputs, outputs, stride, activation, name != "res_elu", 2 if name.endswith("5") else 1)
