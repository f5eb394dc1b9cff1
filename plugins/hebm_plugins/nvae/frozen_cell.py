"""A cell with frozen weights, as one function on a CPU that allocates as little as possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hebm_plugins.fast_convolutions import by_onednn, is_channels_last, is_depthwise
from hebm_plugins.nvae.ops import RESIDUAL_SCALE, SqueezeExcite, nearest

PART = 4 * 2**20
"""Largest size in bytes of an inner tensor, unless that of a single row is larger."""

_ONE = torch.ones((), dtype=torch.float32)

_Map = Callable[[Tensor], Tensor]


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
        spatial: a convolution by groups, w_2 and b_2.
        project: a 1×1 convolution, W_3 and b_3.
        upsample: whether to double the resolution (nearest) before `spatial`.
        skip: the skip path.
        se: squeeze-and-excitation, or the identity.
    """

    def __init__(
        self, expand: nn.Conv2d, spatial: nn.Conv2d, project: nn.Conv2d, upsample: bool, skip: nn.Module, se: nn.Module
    ) -> None:
        super().__init__()
        self.expand, self.spatial, self.project = expand, spatial, project
        self.upsample, self.skip, self.se = upsample, skip, se
        self._arranged = _Arranged()

    @property
    def convolutions(self) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
        """The three convolutions, in their order."""
        return self.expand, self.spatial, self.project

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, I, H, W)` to `(B, O, H', W')`."""
        skip = self.skip(x)
        if is_channels_last(x) and is_depthwise(self.spatial) and by_onednn(x, self.spatial.weight):
            maps, gate = self._arranged.maps(self, x.shape[2:]), _Gate.of(self.se)
            out: Tensor = _FrozenCell.apply(x, None if skip is x else skip, maps, gate, self._parts(x), self.upsample)
            return out
        inner = F.silu(self.expand(x))
        inner = F.silu(self.spatial(nearest(inner) if self.upsample else inner))
        return torch.add(skip, self.se(self.project(inner)), alpha=RESIDUAL_SCALE)

    def _parts(self, x: Tensor) -> list[slice]:
        """Divide the rows of x evenly, so that an inner tensor of a part has at most `PART` bytes."""
        rows, _, height, width = x.shape
        row = self.expand.out_channels * height * width * (4 if self.upsample else 1) * x.element_size()
        count = max(1, -(-rows // max(1, PART // row)))
        size = max(1, -(-rows // count))
        return [slice(first, first + size) for first in range(0, rows, size)]


class _Maps(NamedTuple):
    """The linear maps of a cell, and those of its backward pass."""

    expand: _Map
    spatial: _Map
    project: _Map
    from_project: _Map
    from_spatial: _Map
    from_expand: _Map


class _Arranged:
    """The maps of a cell. oneDNN rearranges a kernel at every call, so this does it once for all calls.

    Copies and pickles are empty, since a rearranged kernel can be neither copied nor stored.
    """

    def __init__(self) -> None:
        self._of: tuple[Any, ...] = ()
        self._values: list[Tensor] = []  # kept, so that no other weights can take their place in memory
        self._maps: _Maps | None = None

    def __reduce__(self) -> tuple[type[_Arranged], tuple[()]]:
        return _Arranged, ()

    def maps(self, cell: FrozenCell, size: torch.Size) -> _Maps:
        """Return the maps for inputs of this height and width; they are made again if the weights have changed."""
        values = [v.detach() for conv in cell.convolutions for v in (conv.weight, conv.bias) if v is not None]
        of = (size, *((v.data_ptr(), 0 if v.is_inference() else v._version) for v in values))
        if self._maps is None or of != self._of:
            self._of, self._values, self._maps = of, values, _arranged(cell, *size)
        return self._maps


def _arranged(cell: FrozenCell, height: int, width: int) -> _Maps:
    small, large = (height, width), (2 * height, 2 * width) if cell.upsample else (height, width)
    (w1, b1), (w2, b2), (w3, b3) = ((conv.weight.detach(), conv.bias) for conv in cell.convolutions)
    return _Maps(
        _convolution(w1, b1, small),
        _convolution(w2, b2, large, len(w2)),
        _convolution(w3, b3, large),
        _convolution(w3.transpose(0, 1), None, large),
        _convolution(w2.flip(2, 3), None, large, len(w2)),
        _convolution(w1.transpose(0, 1), None, small),
    )


def _convolution(kernel: Tensor, bias: Tensor | None, size: tuple[int, int], groups: int = 1) -> _Map:
    """Return the convolution with a frozen kernel that keeps the size of its inputs; their usual size is given."""
    height, width = kernel.shape[2:]
    geometry = ((height // 2, width // 2), (1, 1), (1, 1), groups)
    arranged = torch.ops.mkldnn._reorder_convolution_weight(kernel, *geometry, [8, groups * kernel.shape[1], *size])
    convolve = torch.ops.mkldnn._convolution_pointwise.default
    return lambda x: convolve(x, arranged, bias, *geometry, "none", [], "")


class _FrozenCell(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        skip: Tensor | None,
        maps: _Maps,
        gate: _Gate | None,
        parts: list[slice],
        upsample: bool,
    ) -> Tensor:
        kept: list[Tensor] | None = [] if any(context.needs_input_grad) else None
        onto = x if skip is None else skip
        out = torch.empty_like(onto)
        for rows in parts:
            inner = _silu_(maps.expand(x[rows]), kept)
            inner = _silu_(maps.spatial(nearest(inner) if upsample else inner), kept)
            y = maps.project(inner)
            scale = _ONE if gate is None else gate.at(y, kept)
            torch.addcmul(onto[rows], y, scale, value=RESIDUAL_SCALE, out=out[rows])
        context.save_for_backward(*kept or ())
        context.maps, context.gate, context.parts, context.upsample = maps, gate, parts, upsample
        context.shape, context.has_skip = x.shape, skip is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad.contiguous(memory_format=torch.channels_last)
        kept, maps, gate, parts = context.saved_tensors, context.maps, context.gate, context.parts
        each = len(kept) // max(1, len(parts))
        of_x = torch.empty(context.shape, dtype=grad.dtype, memory_format=torch.channels_last)
        for i, rows in enumerate(parts):
            first, second, *of_gate = kept[i * each : (i + 1) * each]
            of_y = RESIDUAL_SCALE * grad[rows] if gate is None else gate.gradient(grad[rows], *of_gate)
            inner = maps.from_spatial(maps.from_project(of_y).mul_(second))
            inner = F.avg_pool2d(inner, 2, divisor_override=1) if context.upsample else inner
            found = maps.from_expand(inner.mul_(first))
            torch.add(found, 0 if context.has_skip else grad[rows], out=of_x[rows])
        return of_x, grad if context.has_skip else None, *[None] * 4


class _Gate(NamedTuple):
    """The weights of squeeze-and-excitation; computes c and its gradient."""

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
        of_scale = torch.ops.aten.sigmoid_backward((grad * y).sum((2, 3)), scale) @ self.excite
        of_mean = torch.ops.aten.threshold_backward(of_scale, hidden, 0) @ self.squeeze
        of_mean *= RESIDUAL_SCALE / y.shape[2:].numel()
        return torch.addcmul(of_mean[:, :, None, None], grad, scale[:, :, None, None], value=RESIDUAL_SCALE)


def _silu_(x: Tensor, kept: list[Tensor] | None) -> Tensor:
    """Replace x by y = s(x) = x σ(x), and append s'(x) = σ(x) + y (1 − σ(x)) to `kept`, unless it is None."""
    if kept is None:
        F.silu(x, inplace=True)
    else:
        sigmoid = x.sigmoid()
        x.mul_(sigmoid)
        kept.append(torch.lerp(x, _ONE, sigmoid, out=sigmoid))
    return x
