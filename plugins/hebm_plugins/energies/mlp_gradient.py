"""Vector-Jacobian products of perceptrons, without a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_aten = torch.ops.aten

# from a layer, the gradient at its output and its input x, the gradient at its input
_BACKWARD: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Tensor]] = {
    nn.Linear: lambda layer, grad, x: grad @ layer.weight,
    nn.LeakyReLU: lambda layer, grad, x: _aten.leaky_relu_backward(grad, x, layer.negative_slope, False),
    nn.SiLU: lambda layer, grad, x: _aten.silu_backward(grad, x),
    nn.GELU: lambda layer, grad, x: _aten.gelu_backward(grad, x, approximate=layer.approximate),
    nn.ReLU: lambda layer, grad, x: _aten.threshold_backward(grad, x, 0),
}


def with_pullback(net: nn.Sequential, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return y = net(x) `(B, K)`, and the function that maps g `(B, K)` to (∂y/∂x)ᵀ g `(B, size)`.

    Both equal those of autograd bit for bit, since autograd runs the same operations.

    Arguments:
        net: linear layers and activations, from `hebm_plugins.energies.mlp.mlp` without dropout.
        x: `(B, size)`.
    """
    layers, inputs = list(net), []
    for layer in layers:
        inputs.append(x)
        x = layer(x)

    def pullback(grad: Tensor) -> Tensor:
        for layer, given in zip(reversed(layers), reversed(inputs), strict=True):
            grad = _BACKWARD[type(layer)](layer, grad, given)
        return grad

    return x, pullback


def with_gradient(net: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return net(x) `(B, K)`, and the gradient of its sum over K in x `(B, size)`; see `with_pullback`."""
    y, pullback = with_pullback(net, x)
    return y, pullback(torch.ones_like(y))
