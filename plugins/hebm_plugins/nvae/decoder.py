"""The generator p(x, z): one top-down pass through the groups, then the image."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hebm.normals import Normal
from hebm_plugins.clamped import clamped_normal
from hebm_plugins.fast_convolutions import memory_format_of
from hebm_plugins.fast_elu import ELU
from hebm_plugins.module_lists import ModuleList
from hebm_plugins.nvae.cells import Cell
from hebm_plugins.nvae.convolutions import WNConv2d
from hebm_plugins.nvae.ops import UP
from hebm_plugins.nvae.structure import Structure


class Raw(NamedTuple):
    """Mean and log σ, as a net returns them, before the clamp; `(B, L, r, r)` each."""

    mean: Tensor
    log_std: Tensor

    @classmethod
    def of(cls, output: Tensor) -> Raw:
        """Split a net's output `(B, 2L, r, r)`."""
        mean, log_std = output.chunk(2, dim=1)
        return cls(mean, log_std)


class Joins(Protocol):
    """Joins a feature and z to the next feature."""

    def join(self, feature: Tensor, z: Tensor) -> Tensor:
        """Map a feature `(B, C, r, r)` and z `(B, L, r, r)` to `(B, C, r, r)`."""


class Combine(WNConv2d):
    """A 1×1 convolution of a feature and z, their channels concatenated.

    Arguments:
        channels: C of the feature, and of the result.
        latent: channels L of z.
    """

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__(channels + latent, channels, 1)

    def join(self, feature: Tensor, z: Tensor) -> Tensor:
        """Map a feature `(B, C, r, r)` and z `(B, L, r, r)` to `(B, C, r, r)`."""
        y: Tensor = self(torch.cat([feature, z.to(feature.dtype)], dim=1))
        return y


class PriorGroup(nn.Module):
    """One group: its cells, p(z_i | z_above), the combination of z with the feature, and the step to the next scale.

    Arguments:
        structure: the sizes.
        index: number of the group, top-down. The first group has neither cells nor a learned prior.
    """

    def __init__(self, structure: Structure, index: int) -> None:
        super().__init__()
        channels = structure.decoder_channels * structure.shrink(structure.scales[index])
        latent, count = structure.latent_channels, structure.decoder_cells if index else 0
        ops, se = structure.ops.decoder, structure.squeeze_excite
        self.cells = ModuleList(Cell(ops, channels, 1, se) for _ in range(count))
        self.activation = ELU()
        self.normal = WNConv2d(channels, 2 * latent, 1) if index else None
        self.combine: Joins = Combine(channels, latent)
        self.up = Cell(ops, channels, UP, se) if structure.ends_scale(index) else None

    def enter(self, feature: Tensor) -> Tensor:
        """Return the feature from which p(z_i | z_above) is computed."""
        for cell in self.cells:
            feature = cell(feature)
        return feature

    def prior(self, feature: Tensor) -> tuple[Raw | None, Normal]:
        """Return p(z_i | z_above), also before the clamp. The first group has N(0, 1.01²), from raw zeros."""
        if self.normal is None:
            return None, clamped_normal(feature.new_zeros(()), feature.new_zeros(()))
        raw = Raw.of(self.normal(self.activation(feature)))
        return raw, clamped_normal(*raw)

    def absorb(self, feature: Tensor, z: Tensor) -> Tensor:
        """Return the feature for the next group, or for the image."""
        feature = self.combine.join(feature, z)
        return feature if self.up is None else self.up(feature)


class Decoder(nn.Module):
    """p(z) and the image's parameters.

    Arguments:
        structure: the sizes.
        height, width: height and width of the image, including padding.
        outputs: channels of the image's parameters.
    """

    def __init__(self, structure: Structure, height: int, width: int, outputs: int) -> None:
        super().__init__()
        shrink, channels = structure.shrink(0), structure.decoder_channels
        self.feature = nn.Parameter(torch.rand(channels * shrink, height // shrink, width // shrink))
        self.groups = ModuleList(PriorGroup(structure, i) for i in range(len(structure.scales)))
        ops, se = structure.ops.post, structure.squeeze_excite
        self.post = ModuleList(
            Cell(ops, channels * 2 ** (block - 1 if cell else block), 1 if cell else UP, se)
            for block in range(structure.blocks, 0, -1)
            for cell in range(structure.post_cells)
        )
        self.activation = ELU()
        self.head = WNConv2d(channels, outputs, 3)

    def first(self, rows: int) -> Tensor:
        """Return the constant feature above the first group, `(B, C, r, r)`."""
        return self.feature.expand(rows, -1, -1, -1).contiguous(memory_format=memory_format_of(self.head.weight))

    def enter(self, index: int, feature: Tensor, above: Tensor | None) -> Tensor:
        """Return the feature from which p(z_i | z_above) is computed, given the feature and z of the group above."""
        if above is not None:
            feature = self.groups[index - 1].absorb(feature, above)
        return self.groups[index].enter(feature)

    def last_feature(self, feature: Tensor, z: Tensor) -> Tensor:
        """Return the last group's feature combined with its z, from which the image is computed."""
        return self.groups[-1].absorb(feature, z)

    def image(self, feature: Tensor, z: Tensor) -> Tensor:
        """Return the image's parameters `(B, outputs, H, W)`, from the last group's feature and z."""
        feature = self.last_feature(feature, z)
        for cell in self.post:
            feature = cell(feature)
        image: Tensor = self.head(self.activation(feature))
        return image
