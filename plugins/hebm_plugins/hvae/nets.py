"""The networks of the convolutional hierarchy, which map one level of the pyramid to another.

They have no normalisation layers. Instead, the second layer of every residual block starts at zero, so a deep path
starts as a shallow one. Rows stay independent, and processes need not synchronise statistics.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm.normals import Normal
from hebm_plugins.hvae.pyramid import Pyramid


class ResidualBlock(nn.Module):
    """h + second(SiLU(first(SiLU(h)))), where `second` starts at zero.

    Arguments:
        first, second: layers that preserve the shape of h.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second
        for parameter in second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, h: Tensor) -> Tensor:
        """Return a tensor of the same shape as h."""
        change: Tensor = self.second(F.silu(self.first(F.silu(h))))
        return h + change


def layer_at(pyramid: Pyramid, level: int, channels: int, out: int) -> nn.Module:
    """Return a layer at one level, `(B, channels, …)` → `(B, out, …)`: convolution k3 p1; linear at the flat level."""
    return nn.Linear(channels, out) if level == pyramid.flat else nn.Conv2d(channels, out, 3, padding=1)


def step_between(pyramid: Pyramid, a: int, b: int) -> nn.Module:
    """Return a layer from level a to its neighbour b: a convolution k4 s2 p1; linear to or from the flat level."""
    widths = pyramid.features(a), pyramid.features(b)
    shape = (pyramid.features(pyramid.depth), *pyramid.size(pyramid.depth))
    if b == pyramid.flat:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), pyramid.units))
    if a == pyramid.flat:
        return nn.Sequential(nn.Linear(pyramid.units, math.prod(shape)), nn.Unflatten(1, shape))
    return (nn.Conv2d if b > a else nn.ConvTranspose2d)(*widths, 4, 2, 1)


def blocks_at(pyramid: Pyramid, level: int, count: int) -> list[nn.Module]:
    """Return the residual blocks of a level. The image's own resolution has none, since they would be expensive."""
    width = pyramid.features(level)
    first_and_second = ((layer_at(pyramid, level, width, width) for _ in range(2)) for _ in range(count))
    return [ResidualBlock(*pair) for pair in first_and_second] if level else []


class Path(nn.Module):
    """Map tensors at level a to tensors at level b, through all levels in between.

    Arguments:
        pyramid: sizes and widths of the levels.
        a, b: levels. One layer connects neighbours; if a = b, the path has only the blocks of the level.
        channels: channels of the input and of the output.
        blocks: number of residual blocks after every step.
    """

    def __init__(self, pyramid: Pyramid, a: int, b: int, channels: tuple[int, int], blocks: int) -> None:
        super().__init__()
        self.input = layer_at(pyramid, a, channels[0], pyramid.features(a))
        route = range(a, b, 1 if b > a else -1)
        layers: list[nn.Module] = [] if route else blocks_at(pyramid, b, blocks)
        for level in route:
            after = level + route.step
            layers += [nn.SiLU(), step_between(pyramid, level, after), *blocks_at(pyramid, after, blocks)]
        self.body = nn.Sequential(*layers)
        self.output = layer_at(pyramid, b, pyramid.features(b), channels[1])

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, c, h_a, w_a)`, or `(B, c)` from the flat level, to `(B, c', h_b, w_b)`, or `(B, c')`."""
        out: Tensor = self.output(F.silu(self.body(self.input(x))))
        return out


class ConditionalNormal(nn.Module):
    """N(μ(h), σ(h)²), [μ, s] = net(h), log σ = b tanh(s / b).

    Without the bound, a tilt f(T(u)) of a lower layer may grow as exp exp u, and chains of the prior diverge.

    Arguments:
        net: has 2c output channels for a layer of c channels.
        bound: b, greater than 0.
    """

    def __init__(self, net: nn.Module, bound: float) -> None:
        super().__init__()
        self.net, self.bound = net, bound

    def forward(self, h: Tensor) -> Normal:
        """Return the distribution of a layer given h, the input of its net."""
        mean, log_std = self.net(h).chunk(2, dim=1)
        return Normal(mean, (self.bound * torch.tanh(log_std / self.bound)).exp())
