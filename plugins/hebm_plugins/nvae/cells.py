"""Residual cells: out = skip(x) + 0.1 · SE(op_n(… op_1(x)))."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm_plugins.module_lists import ModuleList
from hebm_plugins.nvae.convolutions import WNConv2d
from hebm_plugins.nvae.ops import RESIDUAL_SCALE, UP, SqueezeExcite, make_op


class Ops(NamedTuple):
    """Names of the ops in the cells of each part of the network."""

    encoder: tuple[str, ...]
    pre: tuple[str, ...]
    decoder: tuple[str, ...]
    post: tuple[str, ...]


_SWISH = ("res_bnswish", "res_bnswish")
_WIDE, _NARROW = ("mconv_e6k5g0",), ("mconv_e3k5g0",)


def _res_then_bottleneck(*ops: str) -> Ops:
    return Ops(ops, ops, _WIDE, _NARROW)


ARCHITECTURES: dict[str, Ops] = {
    "res_mbconv": _res_then_bottleneck(*_SWISH),
    "res_elu": Ops(*[("res_elu",) * 2] * 4),
    "res_bnelu": Ops(*[("res_bnelu",) * 2] * 4),
    "res_bnswish": Ops(*[_SWISH] * 4),
    "mbconv_sep": Ops(_WIDE, _NARROW, _WIDE, _NARROW),
    "mbconv_sep11": Ops(("mconv_e6k11g0",), _NARROW, ("mconv_e6k11g0",), _NARROW),
    "mbconv_res": Ops(_WIDE, _NARROW, _SWISH, _SWISH),
    "mbconv_den": Ops(_WIDE, ("mconv_e3k5g8",), _WIDE, ("mconv_e3k5g8",)),
    "res53_mbconv": _res_then_bottleneck("res_bnswish5", "res_bnswish"),
    "res35_mbconv": _res_then_bottleneck("res_bnswish", "res_bnswish5"),
    "res55_mbconv": _res_then_bottleneck("res_bnswish5", "res_bnswish5"),
}
"""The ops of each published architecture. `res_elu` omits the data-dependent initialisation of the published code."""


class Halving(nn.Module):
    """The skip path of a cell that halves the resolution.

    It applies SiLU and four strided 1×1 convolutions, one for each corner of the 2×2 squares, and concatenates their
    channels.

    Arguments:
        channels: C of the input; the output has 2C.
    """

    corners = ((0, 0), (1, 1), (0, 1), (1, 0))

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = 2 * channels // 4
        sizes = (quarter, quarter, quarter, 2 * channels - 3 * quarter)
        self.convs = ModuleList(WNConv2d(channels, size, 1, stride=2) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, C, H, W)` to `(B, 2C, H/2, W/2)`."""
        y = F.silu(x)
        parts = [conv(y[:, :, down:, right:]) for conv, (down, right) in zip(self.convs, self.corners, strict=True)]
        return torch.cat(parts, dim=1)


class Doubling(nn.Module):
    """The skip path of a cell that doubles the resolution: bilinear up-sampling (aligned corners), 1×1 convolution.

    The convolution has no bias, so the two commute, and it comes first, at a quarter of the cost.

    Arguments:
        channels: C of the input; the output has C/2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = WNConv2d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, C, H, W)` to `(B, C/2, 2H, 2W)`."""
        return F.interpolate(self.conv(x), scale_factor=2.0, mode="bilinear", align_corners=True)


class Cell(nn.Module):
    """A residual cell: skip(x) + 0.1 · SE(ops(x)).

    Arguments:
        ops: names of the ops; the first op has the stride.
        channels: C of the input.
        stride: 1 keeps C, 2 gives 2C, `UP` gives C/2.
        squeeze_excite: whether SE scales the channels of the branch; otherwise SE is the identity.
    """

    def __init__(self, ops: tuple[str, ...], channels: int, stride: int, squeeze_excite: bool) -> None:
        super().__init__()
        outputs = {1: channels, 2: 2 * channels, UP: channels // 2}[stride]
        self.skip: nn.Module = {1: nn.Identity, 2: Halving, UP: Doubling}[stride](channels)
        first, *rest = ops
        self.ops: ModuleList[nn.Module] = ModuleList(
            [make_op(first, channels, outputs, stride), *(make_op(name, outputs, outputs, 1) for name in rest)]
        )
        self.se: nn.Module = SqueezeExcite(outputs) if squeeze_excite else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the cell's output for x `(B, C, H, W)`."""
        branch = x
        for op in self.ops:
            branch = op(branch)
        return torch.add(self.skip(x), self.se(branch), alpha=RESIDUAL_SCALE)
