"""`Conv2d` and `ConvTranspose2d`, with faster forms of some convolutions.

- A kernel as large as the map, and a transposed convolution of a 1×1 map, are one matrix product each.
- On CPUs, a 1×1 convolution of a tensor in channels-last format is one matrix product over channels. With a stride, it
  first selects the pixels that it reads. This also avoids an error of oneDNN, which writes outside its memory when it
  computes the gradient of such a kernel with few input channels (https://github.com/uxlfoundation/oneDNN/issues/6035).
- On CPUs, the gradients of a depthwise convolution y[c] = w[c] ⋆ x[c] are depthwise convolutions themselves, which
  oneDNN computes several times as fast as its own backward pass: ∂x[c] = flip(w[c]) ⋆ ∂y[c] and, with the rows of a
  batch as further channels, ∂w[c] = Σ_b x[b, c] ⋆ ∂y[b, c], where ∂y is the kernel.

Results equal those of torch up to rounding.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, faster for 1×1, depthwise and map-sized kernels."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self._pointwise and input.device.type == "cpu":
            seen = input[:, :, :: self.stride[0], :: self.stride[1]]
            if seen.stride(1) == 1 and not seen.is_contiguous():
                return pointwise(seen, weight, bias)
            if self.stride != (1, 1):
                return F.conv2d(seen, weight, bias)
        if self._dense and tuple(input.shape[2:]) == self.kernel_size:
            return F.linear(_rows(input, weight), _rows(weight, weight), bias)[:, :, None, None]
        if is_depthwise(self) and by_onednn(input, weight):
            y: Tensor = _Depthwise.apply(input, weight, bias)
            return y
        plain: Tensor = super()._conv_forward(input, weight, bias)
        return plain

    @property
    def _dense(self) -> bool:
        return self.groups == 1 and self.padding == (0, 0) and self.dilation == (1, 1)

    @property
    def _pointwise(self) -> bool:
        return self._dense and self.kernel_size == (1, 1)


class ConvTranspose2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d`, faster for 1×1 maps."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map `(B, I, H, W)` to `(B, O, H', W')`."""
        unpadded = self.padding == self.output_padding == (0, 0) and self.dilation == (1, 1) and self.groups == 1
        if output_size is not None or not unpadded or tuple(input.shape[2:]) != (1, 1):
            plain: Tensor = super().forward(input, output_size)
            return plain
        y = input.flatten(1) @ _rows(self.weight, self.weight)
        return _maps(y, self.weight) if self.bias is None else _maps(y, self.weight) + self.bias[:, None, None]


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution has one kernel for each channel, of odd sides, and keeps the size of its input."""
    height, width = conv.kernel_size
    same = height % 2 == width % 2 == 1 and conv.padding == (height // 2, width // 2)
    one_each = conv.groups == conv.in_channels == conv.out_channels > 1
    return one_each and same and conv.stride == (1, 1) and conv.dilation == (1, 1)


def is_channels_last(x: Tensor) -> bool:
    """Whether x `(B, C, H, W)` is stored in channels-last format and not contiguous as well."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return the format in which x `(B, C, H, W)` is stored; contiguous if it is both."""
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format


def depthwise(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel of x `(B, C, H, W)` with its kernel `(C, 1, k, l)` of odd sides; the size is kept."""
    height, width = kernel.shape[2:]
    return F.conv2d(x, kernel, bias, padding=(height // 2, width // 2), groups=len(kernel))


def pointwise(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x `(B, I, H, W)` with a kernel `(O, I, 1, 1)` by one matrix product; the result is channels-last."""
    return F.linear(x.permute(0, 2, 3, 1), kernel.flatten(1), bias).permute(0, 3, 1, 2)


def _rows(x: Tensor, kernel: Tensor) -> Tensor:
    """Return x `(N, C, H, W)` as `(N, C · H · W)`, its columns in the order in which the kernel is stored."""
    return (x.permute(0, 2, 3, 1) if is_channels_last(kernel) else x).flatten(1)


def _maps(rows: Tensor, kernel: Tensor) -> Tensor:
    """Return rows of the order of `_rows` as maps of the shape of the kernel's `(O, k, l)`."""
    channels, height, width = kernel.shape[1:]
    if is_channels_last(kernel):
        return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)
    return rows.view(-1, channels, height, width)


def by_onednn(x: Tensor, kernel: Tensor) -> bool:
    """Whether oneDNN computes this convolution: in float32 on a CPU, and not in a compiled graph."""
    if torch.compiler.is_compiling():
        return False
    plain = x.dtype == kernel.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and x.device.type == "cpu" and _HAS_ONEDNN


class _Depthwise(torch.autograd.Function):
    """y[b, c] = w[c] ⋆ x[b, c] + bias[c], with zero padding that keeps the size; differentiable twice."""

    @staticmethod
    def forward(context: Any, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(x if context.needs_input_grad[1] else None, kernel)  # a frozen kernel needs no x
        return depthwise(x, kernel, bias)

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,), (x, kernel) = grads, context.saved_tensors
        for_x, for_kernel, for_bias = context.needs_input_grad
        return (
            depthwise(grad, kernel.flip(2, 3)) if for_x else None,
            _kernel_gradient(x, grad, kernel) if for_kernel else None,
            grad.sum((0, 2, 3)) if for_bias else None,
        )


def _kernel_gradient(x: Tensor, grad: Tensor, kernel: Tensor) -> Tensor:
    """Return ∂w `(C, 1, k, l)`: x as one image of B · C channels, convolved with ∂y as B · C kernels."""
    rows, channels, height, width = x.shape
    size = cast("tuple[int, int]", tuple(kernel.shape[2:]))
    image = x.permute(2, 3, 0, 1).reshape(1, height, width, rows * channels).permute(0, 3, 1, 2)
    kernels = grad.reshape(rows * channels, 1, height, width)
    padding = (size[0] // 2, size[1] // 2)
    of_rows = F.conv2d(image, kernels, padding=padding, groups=rows * channels)
    return of_rows.view(rows, channels, *size).sum(0).unsqueeze(1)
