"""Fold weight norm and BatchNorm into plain convolutions, for an equal net in evaluation.

With a = γ / √(var + ε) and s = β − a·mean, BatchNorm is x ↦ a x + s. It folds

- into the convolution before it:  W[o] ← a[o] W[o],  b[o] ← a[o] b[o] + s[o];
- into a 1×1 convolution after it (no padding):  b[o] ← b[o] + Σ_c W[o, c] s[c],  W[o, c] ← W[o, c] a[c].

The first BatchNorm in a cell of `ConvOp`s is not folded: an activation separates it from the convolution, and the skip
path needs its input.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm_plugins.fast_convolutions import Conv2d, by_onednn, is_channels_last, is_depthwise
from hebm_plugins.nvae.batch_norm import BatchNorm
from hebm_plugins.nvae.cells import Cell
from hebm_plugins.nvae.convolutions import WNConv2d, kernel_of
from hebm_plugins.nvae.frozen_bottleneck import frozen_bottleneck
from hebm_plugins.nvae.ops import ConvOp, InvertedBottleneck, nearest

if TYPE_CHECKING:
    from hebm_plugins.nvae.backbone import NVAEBackbone


class FoldedBottleneck(nn.Module):
    """Three convolutions with biases. Up-sampling comes after the first one, which then costs a quarter.

    Arguments:
        op: the op to fold.
    """

    def __init__(self, op: InvertedBottleneck) -> None:
        super().__init__()
        self.upsample = op.upsample
        self.expand = into_previous(after_affine(op.norm, op.expand), op.expand_norm)
        self.spatial = into_previous(op.spatial, op.spatial_norm)
        self.project = into_previous(op.project, op.project_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, I, H, W)` to `(B, O, H', W')`."""
        if is_channels_last(x) and is_depthwise(self.spatial) and by_onednn(x, self.spatial.weight):
            return frozen_bottleneck(x, self.expand, self.spatial, self.project, self.upsample)
        x = F.silu(self.expand(x))
        x = F.silu(self.spatial(nearest(x) if self.upsample else x))
        y: Tensor = self.project(x)
        return y


def affine(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Return a and s of BatchNorm with its running statistics, `(C,)` each."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - scale * norm.running_mean


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    height, width = sizes
    return height, width


def plain(conv: nn.Conv2d, kernel: Tensor | None = None, bias: Tensor | None = None) -> nn.Conv2d:
    """Return an ordinary convolution of the same geometry, with this kernel and bias, or its own effective ones."""
    kernel, bias = kernel_of(conv) if kernel is None else kernel, conv.bias if bias is None else bias
    made = Conv2d(
        conv.in_channels,
        conv.out_channels,
        _pair(conv.kernel_size),
        _pair(conv.stride),
        conv.padding if isinstance(conv.padding, str) else _pair(conv.padding),
        _pair(conv.dilation),
        conv.groups,
        bias is not None,
        device="meta",
    )
    made.weight = nn.Parameter(kernel.detach().clone(), requires_grad=False)
    made.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
    return made


def into_previous(conv: nn.Conv2d, norm: BatchNorm) -> nn.Conv2d:
    """Return norm(conv(x)) as one convolution."""
    scale, shift = affine(norm)
    bias = shift if conv.bias is None else scale * conv.bias + shift
    return plain(conv, kernel_of(conv) * scale[:, None, None, None], bias)


def after_affine(norm: BatchNorm, conv: nn.Conv2d) -> nn.Conv2d:
    """Return conv(norm(x)) as one convolution, for a 1×1 `conv`."""
    scale, shift = affine(norm)
    kernel = kernel_of(conv)
    bias = kernel.flatten(1) @ shift
    return plain(conv, kernel * scale[None, :, None, None], bias if conv.bias is None else bias + conv.bias)


def _fold_cell(cell: Cell) -> None:
    """Fold bottlenecks to three convolutions, and the later norms of `ConvOp`s into the convolution before."""
    for i, op in enumerate(cell.ops):
        before = cell.ops[i - 1] if i else None
        if isinstance(op, InvertedBottleneck):
            cell.ops[i] = FoldedBottleneck(op)
        elif isinstance(before, ConvOp) and isinstance(op, ConvOp) and isinstance(op.norm, BatchNorm):
            before.conv = into_previous(before.conv, op.norm)
            op.norm = nn.Identity()


def _fold_weight_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, WNConv2d):
            setattr(module, name, plain(child))
        else:
            _fold_weight_norm(child)


@torch.no_grad()
def folded(backbone: NVAEBackbone) -> NVAEBackbone:
    """Return a frozen copy with folded parameters, equal to the original in eval mode. Do not train or save it."""
    twin = copy.deepcopy(backbone).eval().requires_grad_(False)
    for module in list(twin.modules()):
        if isinstance(module, Cell):
            _fold_cell(module)
    _fold_weight_norm(twin)
    return twin.to(memory_format=torch.channels_last)
