"""The networks of the flat-latent generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec
from hebm.normals import Normal
from hebm_plugins.energies.mlp import mlp
from hebm_plugins.energies.mlp_gradient import with_pullback
from hebm_plugins.fast_convolutions import Conv2d, ConvTranspose2d


class ConditionalNormal(nn.Module):
    """N(μ(h), (exp s(h) + offset)²), [μ, s] from one MLP, |s| < bound by s → bound · tanh(s / bound).

    Arguments:
        sizes: sizes of the input, the hidden layers, and d; the net has 2d outputs.
        activation: name of the activation between layers.
        offset: constant added to every σ (0.01 in the published code).
        bound: soft bound of s, or None.
    """

    def __init__(self, sizes: tuple[int, ...], activation: str, offset: float, bound: float | None = None) -> None:
        super().__init__()
        self.net, self.offset, self.bound = mlp((*sizes[:-1], 2 * sizes[-1]), activation), offset, bound

    def forward(self, h: Tensor) -> Normal:
        """Map h `(B, size)` to the distribution."""
        return self.with_pullback(h)[0]

    def with_pullback(self, h: Tensor) -> tuple[Normal, Callable[[Tensor, Tensor], Tensor]]:
        """Return the distribution, and the function that maps gradients in μ and σ `(B, d)` to that in h."""
        out, pullback = with_pullback(self.net, h)
        mean, s = out.chunk(2, dim=1)
        log_std, pull_back_bound = soft_bounded(s, self.bound)
        scale = log_std.exp()

        def pull_back(by_mean: Tensor, by_std: Tensor) -> Tensor:
            return pullback(torch.cat([by_mean, pull_back_bound(by_std * scale)], dim=1))

        return Normal(mean, scale + self.offset), pull_back


def soft_bounded(s: Tensor, bound: float | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return bound · tanh(s / bound), or s without a bound, and the function that multiplies by its slope."""
    if bound is None:
        return s, lambda grad: grad
    squashed = torch.tanh(s / bound)
    return bound * squashed, lambda grad: torch.ops.aten.tanh_backward(grad * bound, squashed) / bound


def first_kernel(images: ImageSpec, doublings: int) -> tuple[int, int]:
    """Return the smallest map's size, image size / 2^doublings. Raises `ConfigError` if that is not a whole number."""
    factor = 2**doublings
    if images.height % factor or images.width % factor:
        raise ConfigError(
            f"backbone.widths: {doublings} doublings need a height and width that {factor} divides, and the images "
            f"have {images.height}x{images.width}; give another number of widths or resize the images"
        )
    return images.height // factor, images.width // factor


def conv_generator(dim: int, widths: tuple[int, ...], images: ImageSpec, head: str, squash: bool) -> nn.Sequential:
    """Build transposed convolutions: 1×1 → first map (k = its size) → doubled per width (k4 s2 p1) → image.

    Arguments:
        dim: dimension of z_1.
        widths: channels after each layer but the last.
        images: size and channels of the images.
        head: "conv" ends with k3 s1 p1, "upsample" with k4 s2 p1.
        squash: apply tanh at the end.
    """
    doublings = len(widths) - 1 + (head == "upsample")
    layers: list[nn.Module] = [nn.Unflatten(1, (dim, 1, 1))]
    layers += [ConvTranspose2d(dim, widths[0], first_kernel(images, doublings))]
    for a, b in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.LeakyReLU(0.2), ConvTranspose2d(a, b, 4, 2, 1)]
    last = (4, 2, 1) if head == "upsample" else (3, 1, 1)
    layers += [nn.LeakyReLU(0.2), ConvTranspose2d(widths[-1], images.channels, *last)]
    return nn.Sequential(*layers, *[nn.Tanh()] * squash)


def mlp_generator(dim: int, widths: tuple[int, ...], images: ImageSpec, squash: bool) -> nn.Sequential:
    """Build linear layers with SiLU between, reshaped to the image; tanh at the end if `squash`."""
    net = mlp((dim, *widths, math.prod(images.shape)), "silu")
    return nn.Sequential(*net, nn.Unflatten(1, images.shape), *[nn.Tanh()] * squash)


def conv_encoder(widths: tuple[int, ...], images: ImageSpec, head: str, features: int) -> nn.Sequential:
    """Build the generator's mirror image: k3 s1 p1 (or k4 s2 p1), halvings, one kernel as large as the last map."""
    doublings = len(widths) - 1 + (head == "upsample")
    first = (4, 2, 1) if head == "upsample" else (3, 1, 1)
    channels = widths[::-1]
    layers: list[nn.Module] = [Conv2d(images.channels, channels[0], *first), nn.LeakyReLU(0.2)]
    for a, b in zip(channels[:-1], channels[1:], strict=True):
        layers += [Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, Conv2d(channels[-1], features, first_kernel(images, doublings)), nn.Flatten())


def mlp_encoder(widths: tuple[int, ...], images: ImageSpec, features: int) -> nn.Sequential:
    """Build linear layers over the flat image, widths in reverse."""
    return nn.Sequential(nn.Flatten(), *mlp((math.prod(images.shape), *widths[::-1], features), "silu"))


class TopDownInference(nn.Module):
    """q(z|x) = q(z_L|h) Π q(z_i | z_{i+1}, h), h = encoder(x).

    Arguments:
        encoder: image → `(B, features)`.
        z_dims: top first.
        features, width, offset: size of h, number of hidden units, and the constant added to every σ.
    """

    def __init__(self, encoder: nn.Module, z_dims: tuple[int, ...], features: int, width: int, offset: float) -> None:
        super().__init__()
        self.encoder = encoder
        inputs = (features, *(features + d for d in z_dims[:-1]))
        self.layers = nn.ModuleList(
            ConditionalNormal((a, width, d), "silu", offset) for a, d in zip(inputs, z_dims, strict=True)
        )

    def forward(self, x: Tensor, noise: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Normal]]:
        """Return z and its distribution per layer, top first, for noise ξ_i `(B, d_i)`."""
        h = F.silu(self.encoder(x))
        z: list[Tensor] = []
        q: list[Normal] = []
        for layer, xi in zip(self.layers, noise, strict=True):
            q.append(layer(torch.cat([h, z[-1]], dim=1) if z else h))
            z.append(q[-1].at(xi))
        return z, q


class BottomUpInference(nn.Module):
    """q(z|x) = q(z_1|x) Π q(z_{i+1} | z_i), the joint EBM paper's inference model.

    Arguments:
        encoder: image → `(B, 2 d_1)`, mean and log σ of z_1.
        z_dims: top first.
        width, offset: number of hidden units, and the constant added to every σ.
    """

    def __init__(self, encoder: nn.Module, z_dims: tuple[int, ...], width: int, offset: float) -> None:
        super().__init__()
        self.encoder, self.offset = encoder, offset
        upwards = z_dims[::-1]
        self.layers = nn.ModuleList(
            ConditionalNormal((a, width, width, b), "leaky-relu", offset)
            for a, b in zip(upwards[:-1], upwards[1:], strict=True)
        )

    def forward(self, x: Tensor, noise: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Normal]]:
        """Return z and its distribution per layer, top first, for noise ξ_i `(B, d_i)`, top first."""
        mean, log_std = self.encoder(x).chunk(2, dim=1)
        q = [Normal(mean, log_std.exp() + self.offset)]
        z = [q[0].at(noise[-1])]
        for layer, xi in zip(self.layers, noise[-2::-1], strict=True):
            q.append(layer(z[-1]))
            z.append(q[-1].at(xi))
        return z[::-1], q[::-1]
