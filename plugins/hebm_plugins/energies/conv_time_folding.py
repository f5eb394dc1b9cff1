"""The convolutional nets as a chain evaluates them: t and the weights are constant, and S nets are computed as one.

S nets of one shape are the groups of a grouped convolution and the batches of a batched matrix product. Two maps of the
same input are merged into one with twice the outputs. Time features are added as `(B, …)`, or, if the chain has one
level, as the bias of the convolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from hebm_plugins.energies.conv_time_nets import DenseBlock, DenseHead, HalvingBlock
    from hebm_plugins.energies.spectral_norm import ConvMap, LinearMap


def _groups(convs: Sequence[ConvMap]) -> Tensor:
    """Return the kernels of S convolutions as one with S groups, `(S·O, I, k, k)`."""
    return torch.cat([conv.kernel() for conv in convs])


def transposed(maps: Sequence[LinearMap]) -> Tensor:
    """Return the weights of S linear maps for batched products from the right, `(S, I, O)`."""
    return torch.stack([linear.kernel().t() for linear in maps]).contiguous()


class FoldedHalving(nn.Module):
    """S halving blocks, with both convolutions of the input merged into one.

    Arguments:
        blocks: one per net, equal in shape.
        features: s per net, `(B, 128)` or one row.
    """

    twin: Tensor
    twin_bias: Tensor | None
    bias: Tensor
    smooth: Tensor

    def __init__(self, blocks: Sequence[HalvingBlock], features: Sequence[Tensor]) -> None:
        super().__init__()
        self.activate, self.nets = blocks[0].activate, len(blocks)
        pairs = [torch.cat([block.halve.kernel(), block.shortcut.kernel()]) for block in blocks]
        self.register_buffer("twin", torch.cat(pairs))
        bias = torch.stack([block.time(s) for block, s in zip(blocks, features, strict=True)], dim=1)
        one = len(bias) == 1
        self.register_buffer("twin_bias", torch.cat([bias[0], torch.zeros_like(bias[0])], 1).flatten() if one else None)
        self.register_buffer("bias", bias[..., None, None])
        self.register_buffer("smooth", _groups([block.smooth for block in blocks]))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps `(B, S·ch, H/2, W/2)` of x `(B, S·c, H, W)`."""
        x = F.silu(x) if self.activate else x
        both = F.conv2d(x, self.twin, self.twin_bias, stride=2, padding=1, groups=self.nets)
        inner, shortcut = torch.unflatten(both, 1, (self.nets, 2, -1)).unbind(2)
        inner = F.silu(inner + self.bias if self.twin_bias is None else inner).flatten(1, 2)
        inner = F.conv2d(inner, self.smooth, padding=1, groups=self.nets)
        y: Tensor = (inner.view_as(shortcut) + shortcut).flatten(1, 2)
        return y


class FoldedDense(nn.Module):
    """S dense blocks, with both maps of the input merged into one.

    Arguments:
        blocks: one per net, equal in shape.
        features: s per net, `(B, 128)` or one row.
    """

    twin: Tensor
    bias: Tensor
    second: Tensor

    def __init__(self, blocks: Sequence[DenseBlock], features: Sequence[Tensor]) -> None:
        super().__init__()
        both = [transposed([block.first for block in blocks]), transposed([block.shortcut for block in blocks])]
        self.register_buffer("twin", torch.cat(both, dim=2))
        bias = torch.stack([block.time(s) for block, s in zip(blocks, features, strict=True)])
        self.register_buffer("bias", torch.cat([bias, torch.zeros_like(bias)], dim=2))
        self.register_buffer("second", transposed([block.second for block in blocks]))

    def forward(self, x: Tensor) -> Tensor:
        """Return features `(S, B, H/2)` of x `(S, B, H)`."""
        inner, shortcut = torch.baddbmm(self.bias, F.silu(x), self.twin).chunk(2, dim=2)
        return torch.baddbmm(shortcut, F.silu(inner), self.second)


class FoldedHead(nn.Module):
    """S dense heads.

    Arguments:
        heads: one per net, equal in shape.
        features: s per net, `(B, 128)` or one row.
    """

    out: Tensor

    def __init__(self, heads: Sequence[DenseHead], features: Sequence[Tensor]) -> None:
        super().__init__()
        blocks = zip(*(head.blocks for head in heads), strict=True)
        self.blocks = nn.Sequential(*(FoldedDense(block, features) for block in blocks))
        self.register_buffer("out", transposed([head.out for head in heads]))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(B, S, K)` of maps x `(B, S·ch, h, w)`."""
        nets = len(self.out)
        features = x.reshape(len(x), nets, -1).transpose(0, 1)
        return torch.bmm(F.silu(self.blocks(features)), self.out).transpose(0, 1)


class FoldedResidual(nn.Module):
    """S residual nets.

    Arguments:
        shifts: shift of the input channels by t, per net, `(B, c)` or one row.
        blocks: the halving blocks of each net.
        features: s per net, `(B, 128)` or one row.
        head: the heads of all nets.
    """

    shift: Tensor

    def __init__(
        self,
        shifts: Sequence[Tensor],
        blocks: Sequence[Iterable[HalvingBlock]],
        features: Sequence[Tensor],
        head: FoldedHead,
    ) -> None:
        super().__init__()
        self.register_buffer("shift", torch.stack(list(shifts), dim=1)[..., None, None])
        self.blocks = nn.Sequential(*(FoldedHalving(block, features) for block in zip(*blocks, strict=True)))
        self.head = head

    def forward(self, z: Tensor) -> Tensor:
        """Return f `(B, S, K)` of z `(B, S, c, h, w)`."""
        f: Tensor = self.head(self.blocks((z + self.shift).flatten(1, 2)))
        return f


class FoldedPlain(nn.Module):
    """S plain nets.

    Arguments:
        convs: the convolutions of each net.
        head: the heads of all nets.
    """

    def __init__(self, convs: Sequence[Iterable[ConvMap]], head: FoldedHead) -> None:
        super().__init__()
        self.nets, self.head = len(convs), head
        self.kernels = nn.ParameterList(
            nn.Parameter(_groups(same), requires_grad=False) for same in zip(*convs, strict=True)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return f `(B, S, K)` of z `(B, S, c, h, w)`."""
        x = z.flatten(1, 2)
        for i, kernel in enumerate(self.kernels):
            x = F.conv2d(F.silu(x) if i else x, kernel, stride=2, padding=1, groups=self.nets)
        f: Tensor = self.head(x)
        return f
