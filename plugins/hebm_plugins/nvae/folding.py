"""Fold weight norm and BatchNorm into plain convolutions, for an equal net in evaluation.

With a = γ / √(var + ε) and s = β − a·mean, BatchNorm is x ↦ a x + s. It folds

- into the convolution before it:  W[o] ← a[o] W[o],  b[o] ← a[o] b[o] + s[o];
- into a 1×1 convolution after it (no padding):  b[o] ← b[o] + Σ_c W[o, c] s[c],  W[o, c] ← W[o, c] a[c].

The first BatchNorm in a cell of `ConvOp`s is not folded: an activation separates it from the convolution, and the skip
path needs its input.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from hebm_plugins.fast_convolutions import Conv2d, memory_format_of
from hebm_plugins.nvae.batch_norm import BatchNorm
from hebm_plugins.nvae.cells import Cell
from hebm_plugins.nvae.convolutions import WNConv2d, kernel_of
from hebm_plugins.nvae.decoder import Combine
from hebm_plugins.nvae.frozen_cell import FrozenCell
from hebm_plugins.nvae.ops import ConvOp, InvertedBottleneck

if TYPE_CHECKING:
    from hebm_plugins.nvae.backbone import NVAEBackbone

M = TypeVar("M", bound=nn.Module)


class FoldedCombine(nn.Module):
    """W_f feature + b + W_z z: a `Combine` that does not copy feature and z into one tensor.

    Arguments:
        combine: the layer to fold.
        constant: the feature `(C, r, r)`, if it is always the same; W_f feature + b is then computed here, once.
    """

    constant: Tensor | None

    def __init__(self, combine: Combine, constant: Tensor | None = None) -> None:
        super().__init__()
        kernel, channels = combine.kernel(), combine.out_channels
        self.of_feature = plain(combine, kernel[:, :channels], combine.bias)
        self.of_z = plain(combine, kernel[:, channels:], None)
        self.register_buffer("constant", None if constant is None else self.of_feature(constant[None]), False)

    def join(self, feature: Tensor, z: Tensor) -> Tensor:
        """Map a feature `(B, C, r, r)` and z `(B, L, r, r)` to `(B, C, r, r)`."""
        of_feature = self.of_feature(feature) if self.constant is None else self.constant
        like = memory_format_of(feature)
        y: Tensor = of_feature + self.of_z(z.to(feature.dtype).contiguous(memory_format=like))
        return y


def affine(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Return a and s of BatchNorm with its running statistics, `(C,)` each."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - scale * norm.running_mean


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    height, width = sizes
    return height, width


def plain(conv: nn.Conv2d, kernel: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """Return an ordinary convolution with this kernel and bias, and the stride, padding and groups of `conv`."""
    made = Conv2d(
        conv.groups * kernel.shape[1],
        len(kernel),
        _pair(tuple(kernel.shape[2:])),
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


@torch.no_grad()
def fold(module: M) -> M:
    """Fold the cells, the combinations with z and weight norm within a module, in place, and return it."""
    for name, child in module.named_children():
        if isinstance(child, Combine):
            setattr(module, name, FoldedCombine(child))
        elif isinstance(child, WNConv2d):
            setattr(module, name, plain(child, child.kernel(), child.bias))
        elif isinstance(child, Cell):
            cell = _folded_cell(child)
            setattr(module, name, cell)
            fold(cell)
        else:
            fold(child)
    return module


def _folded_cell(cell: Cell) -> nn.Module:
    """Return a cell whose bottleneck is folded, or the later norms of its `ConvOp`s into the convolution before."""
    first, *later = cell.ops
    if isinstance(first, InvertedBottleneck) and not later:
        expand = into_previous(after_affine(first.norm, first.expand), first.expand_norm)
        spatial = into_previous(first.spatial, first.spatial_norm)
        project = into_previous(first.project, first.project_norm)
        return FrozenCell(expand, spatial, project, first.upsample, cell.skip, cell.se)
    for before, op in pairwise(cell.ops):
        if isinstance(before, ConvOp) and isinstance(op, ConvOp) and isinstance(op.norm, BatchNorm):
            before.conv = into_previous(before.conv, op.norm)
            op.norm = nn.Identity()
    return cell


def folded(backbone: NVAEBackbone) -> NVAEBackbone:
    """Return a frozen copy with folded parameters, equal to the original in eval mode. Do not train or save it."""
    twin = copy.deepcopy(backbone).eval().requires_grad_(False)
    first = twin.decoder.groups[0]
    if isinstance(first.combine, Combine):
        with torch.no_grad():
            first.combine = FoldedCombine(first.combine, twin.decoder.feature)
    fold(twin)
    return twin.to(memory_format=torch.channels_last)
