"""Linear maps whose largest singular value is held near 1.

    M = W as a matrix (out, −1),    v ← M'u / ‖M'u‖,    u ← Mv / ‖Mv‖,    W_eff = W / (u'Mv)

Each forward pass makes one power iteration in training and none in evaluation. In the gradient u and v are constants,
and M is not. This is `torch.nn.utils.spectral_norm` as in the published code of arXiv 2405.13910, with one difference:
u and v are iterated when they are created. Without that, u'Mv can be near 0 before training, and f explodes.

References:
    Spectral Normalization for Generative Adversarial Networks, arXiv 1802.05957.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm_plugins.precision import no_autocast

_EPSILON = 1e-12
_WARM_UP = 15


class SpectralNorm(nn.Module):
    """W ↦ W / (u'Mv).

    Arguments:
        weight: the initial weight `(out, …)`, on which u and v are iterated.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        for name, size in zip("uv", matrix.shape, strict=True):
            self.register_buffer(name, F.normalize(matrix.new_empty(size).normal_(), dim=0, eps=_EPSILON))
        for _ in range(0 if matrix.is_meta else _WARM_UP):  # without values there is nothing to iterate
            self._advance(matrix)

    @torch.no_grad()
    def _advance(self, matrix: Tensor) -> None:
        self.v.copy_(F.normalize(torch.mv(matrix.t(), self.u), dim=0, eps=_EPSILON))
        self.u.copy_(F.normalize(torch.mv(matrix, self.v), dim=0, eps=_EPSILON))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the normalised weight; in training u and v advance first."""
        with no_autocast(weight):  # in bf16 the iteration would not converge
            matrix = weight.flatten(1)
            if self.training:
                self._advance(matrix)
            # copies: the buffers may advance again before the backward pass
            return weight / torch.dot(self.u.clone(), torch.mv(matrix, self.v.clone()))


def _normal(weight: Tensor, spectral: bool) -> nn.Module:
    return SpectralNorm(weight) if spectral else nn.Identity()


class LinearMap(nn.Linear):
    """A linear layer, spectrally normalised if `spectral`.

    Arguments:
        inputs, outputs: features.
        spectral: normalise the weight.
        bias: add a bias, which is never normalised.
    """

    def __init__(self, inputs: int, outputs: int, spectral: bool, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias)
        self.normal = _normal(self.weight, spectral)

    def kernel(self) -> Tensor:
        """Return the effective weight `(out, in)`; in training it advances the spectral norm by one iteration."""
        weight: Tensor = self.normal(self.weight)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Return W_eff x + b, of x `(…, in)`."""
        return F.linear(x, self.kernel(), self.bias)


class ConvMap(nn.Conv2d):
    """A convolution without bias, padding 1, spectrally normalised if `spectral`.

    Arguments:
        inputs, outputs: channels.
        size: kernel size.
        stride: 2 with `size = 4` halves a map.
        spectral: normalise the weight.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, spectral: bool) -> None:
        super().__init__(inputs, outputs, size, stride, padding=1, bias=False)
        self.normal = _normal(self.weight, spectral)

    def kernel(self) -> Tensor:
        """Return the effective weight `(out, in, k, k)`; in training it advances the spectral norm by one iteration."""
        weight: Tensor = self.normal(self.weight)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x `(B, in, H, W)`."""
        return F.conv2d(x, self.kernel(), None, self.stride, self.padding)
