"""The nets of a VDVAE. Their names are those of the published code, so state dicts agree key for key."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm.normals import Normal
from hebm_plugins.fast_convolutions import Conv2d
from hebm_plugins.module_lists import ModuleList
from hebm_plugins.precision import full_precision
from hebm_plugins.vdvae.structure import BlockSpec, Structure


def _convolution(inputs: int, outputs: int, kernel: int) -> Conv2d:
    conv = Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    # U(−b, b), b = 1/√fan_in, as torch; written here because parity requires it
    nn.init.kaiming_uniform_(conv.weight, a=math.sqrt(5))
    return conv


class Block(nn.Module):
    """h = c4 g(c3 g(c2 g(c1 g(x)))), g = GELU; then x + h if residual.

    Arguments:
        inputs, inner, outputs: channels before, between and after the convolutions.
        kernel: size of the two inner kernels; the outer ones are 1×1.
        residual: whether to add x.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, kernel: int, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.c1, self.c2 = _convolution(inputs, inner, 1), _convolution(inner, inner, kernel)
        self.c3, self.c4 = _convolution(inner, inner, kernel), _convolution(inner, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, inputs, R, R)` to `(B, outputs, R, R)`."""
        h = x
        for conv in (self.c1, self.c2, self.c3, self.c4):
            h = conv(F.gelu(h))
        return x + h if self.residual else h

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Multiply the last weight, for the initialisation."""
        self.c4.weight.mul_(factor)


class Encoder(nn.Module):
    """The bottom-up pass: a stem, and residual blocks of which some pool.

    Arguments:
        structure: the sizes.
        channels: channels of the image.
    """

    def __init__(self, structure: Structure, channels: int) -> None:
        super().__init__()
        self.structure = structure
        self.in_conv = _convolution(channels, structure.width, 3)
        self.enc_blocks = ModuleList(_residual_block(structure, spec.side) for spec in structure.encoder)
        for block in self.enc_blocks:
            block.shrink(math.sqrt(1 / len(self.enc_blocks)))

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return the last map of each resolution, by its side, of standardised images `(B, C, S, S)`."""
        x = self.in_conv(x)
        maps = {self.structure.side: x}
        for spec, block in zip(self.structure.encoder, self.enc_blocks, strict=True):
            x = self._pooled(block(x), spec)
            maps[x.shape[-1]] = x
        return maps

    def _pooled(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """Average over squares of side K, and append channels of zeros up to the width of the new resolution."""
        if spec.other is None:
            return x
        x = F.avg_pool2d(x, spec.other)
        missing = self.structure.width_at(x.shape[-1]) - x.shape[1]
        return F.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x


def _residual_block(structure: Structure, side: int) -> Block:
    width = structure.width_at(side)
    return Block(width, structure.inner(side), width, structure.kernel(side), residual=True)


class PriorOutput(NamedTuple):
    """The outputs of a layer's prior net: p(z_i | z_above), and the term that it adds to the map, `(B, w, R, R)`."""

    normal: Normal
    residual: Tensor


class LatentBlock(nn.Module):
    """One latent layer: p(z|x) as a net of the map x, q(z|x, e) as a net of [x, e], and the step x ← resnet(x + z).

    Arguments:
        structure: the sizes.
        side: R.
    """

    def __init__(self, structure: Structure, side: int) -> None:
        super().__init__()
        width, inner, kernel = structure.width_at(side), structure.inner(side), structure.kernel(side)
        self.latent_channels, self.width = structure.latent_channels, width
        self.enc = Block(2 * width, inner, 2 * self.latent_channels, kernel)
        self.prior = Block(width, inner, 2 * self.latent_channels + width, kernel)
        self.z_proj = _convolution(self.latent_channels, width, 1)
        self.resnet = _residual_block(structure, side)
        factor = math.sqrt(1 / len(structure.decoder))
        self.prior.shrink(0.0)
        self.resnet.shrink(factor)
        with torch.no_grad():
            self.z_proj.weight.mul_(factor)

    def prior_of(self, x: Tensor) -> PriorOutput:
        """Return p(z | z_above) and the residual for the map x `(B, w, R, R)`. The net returns μ, log σ, residual."""
        latent = self.latent_channels
        mean, log_std, residual = torch.split(self.prior(x), [latent, latent, self.width], dim=1)
        return PriorOutput(_normal(mean, log_std), residual)

    def posterior_of(self, x: Tensor, evidence: Tensor) -> Normal:
        """Return q(z | z_above, x) for the map x and the encoder's map, both `(B, w, R, R)`."""
        return _normal(*self.enc(torch.cat([x, evidence], dim=1)).chunk(2, dim=1))

    def absorb(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the new map of x, to which the prior's residual was added, and z `(B, Z, R, R)`."""
        out: Tensor = self.resnet(x + self.z_proj(z.to(x.dtype)))
        return out


def _normal(mean: Tensor, log_std: Tensor) -> Normal:
    return Normal(full_precision(mean), full_precision(log_std).exp())


class OutNet(nn.Module):
    """The last convolution, in a module of its own for the names of the published code.

    Arguments:
        width: channels of the last map.
        outputs: channels of the image's parameters.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.out_conv = _convolution(width, outputs, 1)


class MapState(NamedTuple):
    """The state of a top-down pass before z of a layer is known.

    Arguments:
        x: the layer's map with the prior's residual, `(B, w, R, R)`; without channels above the top layer.
        maps: the maps of the resolutions visited so far, and the learned biases of the others, by side.
    """

    x: Tensor
    maps: dict[int, Tensor]


class Decoder(nn.Module):
    """The top-down pass p(z), and the image's parameters.

    Arguments:
        structure: the sizes.
        outputs: channels of the image's parameters.
    """

    def __init__(self, structure: Structure, outputs: int) -> None:
        super().__init__()
        self.structure = structure
        self.gain = nn.Parameter(torch.ones(1, structure.width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, structure.width, 1, 1))
        self.dec_blocks = ModuleList(LatentBlock(structure, spec.side) for spec in structure.decoder)
        self.bias_xs = nn.ParameterList(
            torch.zeros(1, structure.width_at(side), side, side) for side in structure.biases
        )
        self.out_net = OutNet(structure.width, outputs)

    def start(self, rows: int) -> MapState:
        """Return the state above the top layer, with the learned biases."""
        biases = dict(zip(self.structure.biases, self.bias_xs, strict=True))
        return MapState(self.gain.new_empty(rows, 0, 1, 1), biases)

    def enter(self, index: int, state: MapState, above: Tensor | None) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the map from which p(z_i | z_above) is computed, `(B, w, R, R)`, and the maps of all resolutions."""
        maps = state.maps
        if above is not None:
            maps = {**maps, self.structure.decoder[index - 1].side: self.dec_blocks[index - 1].absorb(state.x, above)}
        side, mixed = self.structure.decoder[index]
        x = maps.get(side)
        if mixed is not None:
            coarse = maps[mixed][:, : self.structure.width_at(side)]
            enlarged = F.interpolate(coarse, scale_factor=side // mixed)
            x = enlarged if x is None else x + enlarged
        if x is None:
            x = self.gain.new_zeros(1, self.structure.width_at(side), side, side)
        return x.expand(len(state.x), -1, -1, -1), maps

    def image(self, x: Tensor) -> Tensor:
        """Return the image's parameters `(B, outputs, S, S)`, from the last map."""
        parameters: Tensor = self.out_net.out_conv(x * self.gain + self.bias)
        return parameters
