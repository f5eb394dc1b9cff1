"""Weight-normalised convolutions, plain and masked.

    W_eff[o] = exp(g[o]) · W[o] / (‖W[o]‖ + 1e-5),    g = log_weight_norm,

where the norm is over input channels and both spatial axes. W_eff is the same in training and in evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from hebm_plugins.fast_convolutions import Conv2d

_EPSILON = 1e-5
_SHARED: ContextVar[dict[int, Tensor] | None] = ContextVar("shared kernels", default=None)


class WNConv2d(Conv2d):
    """A weight-normalised convolution, padded so that stride 1 keeps the size of its input.

    Arguments:
        inputs, outputs: channels.
        size: kernel size, an odd number.
        stride, dilation, groups, bias: see `nn.Conv2d`.

    g starts at log(‖W‖ + 0.01), so that W_eff starts close to torch's default initialisation W.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        padding = dilation * (size - 1) // 2
        super().__init__(inputs, outputs, size, stride, padding, dilation, groups, bias)
        self.log_weight_norm = nn.Parameter((self._norm(self.weight) + 1e-2).log().detach())

    @staticmethod
    def _norm(weight: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(weight, dim=(1, 2, 3), keepdim=True)
        return norm

    def direction(self) -> Tensor:
        """Return W before normalisation, `(O, I / groups, k, k)`."""
        return self.weight

    def kernel(self) -> Tensor:
        """Return W_eff, `(O, I / groups, k, k)`; inside `shared_kernels` always the same tensor."""
        shared = None if torch.compiler.is_compiling() else _SHARED.get()
        if shared is None:
            return self._computed()
        if id(self) not in shared:
            shared[id(self)] = self._computed()
        return shared[id(self)]

    def _computed(self) -> Tensor:
        weight = self.direction()
        return weight * (self.log_weight_norm.exp() / (self._norm(weight) + _EPSILON))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x `(B, I, H, W)`."""
        y: Tensor = self._conv_forward(x, self.kernel(), self.bias)
        return y


class MaskedWNConv2d(WNConv2d):
    """A weight-normalised convolution whose weight is masked before its norm is taken.

    Arguments:
        inputs, outputs, size, groups, bias: see `WNConv2d`.
        mask: 0 or 1 per weight, `(O, I / groups, k, k)`.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, mask: Tensor, groups: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, size, groups=groups, bias=bias)
        self.register_buffer("mask", mask, persistent=False)
        with torch.no_grad():
            self.log_weight_norm.copy_((self._norm(self.direction()) + 1e-2).log())

    def direction(self) -> Tensor:
        """Return the masked weight."""
        return self.weight * self.mask


@contextmanager
def shared_kernels() -> Iterator[None]:
    """Compute every W_eff only once inside. The weights must not change until the end."""
    token = _SHARED.set({})
    try:
        yield
    finally:
        _SHARED.reset(token)


def kernel_of(conv: nn.Conv2d) -> Tensor:
    """Return the effective kernel of a plain or weight-normalised convolution, `(O, I / groups, k, k)`."""
    return conv.kernel() if isinstance(conv, WNConv2d) else conv.weight
