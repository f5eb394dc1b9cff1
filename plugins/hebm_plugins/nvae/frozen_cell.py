"""A decoder cell with frozen weights, as one function on a CPU that allocates as little as possible."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hebm_plugins.fast_convolutions import by_onednn, depthwise, is_channels_last, is_depthwise, pointwise
from hebm_plugins.nvae.ops import RESIDUAL_SCALE, SqueezeExcite, nearest

PART = 4 * 2**20
"""Largest size in bytes of an inner tensor, unless that of a single row is larger."""

_WIDE_REGISTERS = torch.backends.cpu.get_cpu_capability() == "AVX512"
_ONE = torch.ones(())


class FrozenCell(nn.Module):
    """A cell of one bottleneck without norms, whose weights have no gradients.

        y = W_3 s(w_2 ⋆ s(W_1 x + b_1) + b_2) + b_3,    s = SiLU
        out = skip(x) + 0.1 · c ⊙ y,    c = sigmoid(V_2 relu(V_1 mean_hw(y) + a_1) + a_2), or 1 without SE

    The inner tensors are the largest of an NVAE, and a chain differentiates them at every step. On a CPU, in
    channels-last format and with a depthwise w_2, the cell is therefore one function, differentiable once. Of the inner
    tensors it keeps only the two slopes s'(·) for the backward pass, and both passes overwrite tensors that are no
    longer needed. Large batches are computed in parts, so that an inner tensor stays in the cache until the next
    operation reads it.

    Arguments:
        expand: a 1×1 convolution, W_1 and b_1.
        spatial: a convolution by groups that keeps the size, or halves it: w_2 and b_2.
        project: a 1×1 convolution, W_3 and b_3.
        upsample: whether to double the resolution (nearest) before `spatial`.
        skip: the skip path.
        se: squeeze-and-excitation, or the identity.
    """

    from_expand: Tensor
    from_spatial: Tensor
    from_project: Tensor

    def __init__(
        self, expand: nn.Conv2d, spatial: nn.Conv2d, project: nn.Conv2d, upsample: bool, skip: nn.Module, se: nn.Module
    ) -> None:
        super().__init__()
        self.expand, self.spatial, self.project = expand, spatial, project
        self.upsample, self.skip, self.se = upsample, skip, se
        # the kernels of the backward pass
        self.register_buffer("from_expand", expand.weight.detach().transpose(0, 1).contiguous(), persistent=False)
        self.register_buffer("from_spatial", spatial.weight.detach().flip(2, 3), persistent=False)
        self.register_buffer("from_project", project.weight.detach().transpose(0, 1).contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, I, H, W)` to `(B, O, H', W')`."""
        skip = self.skip(x)
        if is_channels_last(x) and is_depthwise(self.spatial) and by_onednn(x, self.spatial.weight):
            out: Tensor = _FrozenCell.apply(x, None if skip is x else skip, self)
            return out
        inner = F.silu(self.expand(x))
        inner = F.silu(self.spatial(nearest(inner) if self.upsample else inner))
        return torch.add(skip, self.se(self.project(inner)), alpha=RESIDUAL_SCALE)

    def weights(self) -> list[tuple[Tensor, Tensor | None]]:
        """Return the kernel and bias of each convolution."""
        return [(conv.weight, conv.bias) for conv in (self.expand, self.spatial, self.project)]

    def parts(self, rows: int, height: int, width: int) -> list[slice]:
        """Divide `rows` evenly, so that an inner tensor of a part of maps of this size has at most `PART` bytes."""
        row = 4 * self.expand.out_channels * height * width * (4 if self.upsample else 1)
        count = -(-rows // max(1, PART // row))
        size = -(-rows // count)
        return [slice(first, first + size) for first in range(0, rows, size)]


class _FrozenCell(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, skip: Tensor | None, cell: FrozenCell) -> Tensor:
        kept: list[Tensor] | None = [] if any(context.needs_input_grad) else None
        onto, parts = x if skip is None else skip, cell.parts(*x.shape[:1], *x.shape[2:])
        (w1, b1), (w2, b2), (w3, b3) = cell.weights()
        gate, out = _Gate.of(cell.se), torch.empty_like(onto)
        for rows in parts:
            inner = _silu_(_product(x[rows], w1, b1), kept)
            inner = _silu_(depthwise(nearest(inner) if cell.upsample else inner, w2, b2), kept)
            y = _product(inner, w3, b3)
            scale = _ONE if gate is None else gate.at(y, kept)
            torch.addcmul(onto[rows], y, scale, value=RESIDUAL_SCALE, out=out[rows])
        context.save_for_backward(*kept or ())
        context.cell, context.parts, context.shape, context.has_skip = cell, parts, x.shape, skip is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad.contiguous(memory_format=torch.channels_last)
        cell, kept, parts = context.cell, context.saved_tensors, context.parts
        w1, w2, w3 = cell.from_expand, cell.from_spatial, cell.from_project
        gate, each = _Gate.of(cell.se), len(kept) // len(parts)
        of_x = torch.empty(context.shape, memory_format=torch.channels_last)
        for i, rows in enumerate(parts):
            first, second, *of_gate = kept[i * each : (i + 1) * each]
            of_y = RESIDUAL_SCALE * grad[rows] if gate is None else gate.gradient(grad[rows], *of_gate)
            inner = depthwise(_product(of_y, w3).mul_(second), w2)
            inner = 4 * F.avg_pool2d(inner, 2) if cell.upsample else inner
            found = _product(inner.mul_(first), w1)
            torch.add(found, 0 if context.has_skip else grad[rows], out=of_x[rows])
        return of_x, grad if context.has_skip else None, None


class _Gate(NamedTuple):
    """c(y) and its gradient."""

    squeeze: Tensor
    of_squeeze: Tensor
    excite: Tensor
    of_excite: Tensor

    @classmethod
    def of(cls, se: nn.Module) -> _Gate | None:
        """Return the gate of squeeze-and-excitation, or None for the identity."""
        if not isinstance(se, SqueezeExcite):
            return None
        return cls(se.squeeze.weight, se.squeeze.bias, se.excite.weight, se.excite.bias)

    def at(self, y: Tensor, kept: list[Tensor] | None) -> Tensor:
        """Return c `(B, O, 1, 1)`, and append what `gradient` needs to `kept`, unless it is None."""
        hidden = F.relu(F.linear(y.mean((2, 3)), self.squeeze, self.of_squeeze))
        scale = F.linear(hidden, self.excite, self.of_excite).sigmoid()
        if kept is not None:
            kept += y, hidden, scale
        return scale[:, :, None, None]

    def gradient(self, grad: Tensor, y: Tensor, hidden: Tensor, scale: Tensor) -> Tensor:
        """Return 0.1 ∂(c ⊙ y)/∂y applied to `grad`, all `(B, O, H', W')`."""
        of_scale = (grad * y).sum((2, 3)) * (RESIDUAL_SCALE * scale * (1 - scale))
        of_mean = (of_scale @ self.excite * (hidden > 0)) @ (self.squeeze / y.shape[2:].numel())
        return torch.addcmul(of_mean[:, :, None, None], grad, scale[:, :, None, None], value=RESIDUAL_SCALE)


def _product(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x `(B, I, H, W)` with a kernel `(O, I, 1, 1)`: by oneDNN where it uses the registers of AVX-512."""
    if _WIDE_REGISTERS:
        return torch.mkldnn_convolution(x, kernel, bias, (0, 0), (1, 1), (1, 1), 1)
    return pointwise(x, kernel, bias)


def _silu_(x: Tensor, kept: list[Tensor] | None) -> Tensor:
    """Replace x by y = s(x) = x σ(x), and append s'(x) = σ(x) + y (1 − σ(x)) to `kept`, unless it is None."""
    if kept is None:
        F.silu(x, inplace=True)
    else:
        sigmoid = x.sigmoid()
        x.mul_(sigmoid)
        kept.append(torch.lerp(x, _ONE, sigmoid, out=sigmoid))
    return x
