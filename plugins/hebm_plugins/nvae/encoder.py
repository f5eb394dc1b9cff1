"""The inference model q(z|x): a bottom-up pass over the image, whose features the top-down pass uses in every group."""

from __future__ import annotations

from torch import Tensor, nn

from hebm.normals import Normal
from hebm_plugins.clamped import clamped_normal
from hebm_plugins.fast_elu import ELU
from hebm_plugins.module_lists import ModuleList
from hebm_plugins.nvae.cells import Cell
from hebm_plugins.nvae.convolutions import WNConv2d
from hebm_plugins.nvae.decoder import Raw
from hebm_plugins.nvae.flows import Flow
from hebm_plugins.nvae.structure import Structure


class BottomUp(nn.Module):
    """The cells below one group and, for the last group of a scale, the cell to the next coarser scale.

    Arguments:
        structure: the sizes.
        index: number of the group, top-down.
    """

    def __init__(self, structure: Structure, index: int) -> None:
        super().__init__()
        channels = structure.encoder_channels * structure.shrink(structure.scales[index])
        ops, se = structure.ops.encoder, structure.squeeze_excite
        self.cells = ModuleList(Cell(ops, channels, 1, se) for _ in range(structure.encoder_cells))
        self.down = Cell(ops, channels, 2, se) if index and structure.ends_scale(index - 1) else None

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Return the feature for the group, and the feature for the next cells."""
        for cell in self.cells:
            feature = cell(feature)
        return feature, feature if self.down is None else self.down(feature)


class PosteriorGroup(nn.Module):
    """q(z_i | z_above, x) = N(clamp(raw_q + raw_p)), followed by flows; in the first group without raw_p.

    Arguments:
        structure: the sizes.
        index: number of the group, top-down.
    """

    def __init__(self, structure: Structure, index: int) -> None:
        super().__init__()
        shrink, latent = structure.shrink(structure.scales[index]), structure.latent_channels
        channels = structure.encoder_channels * shrink
        self.combine = WNConv2d(structure.decoder_channels * shrink, channels, 1) if index else None
        self.normal = WNConv2d(channels, 2 * latent, 3)
        self.flows = ModuleList(Flow(latent) for _ in range(structure.flows))

    def raw(self, evidence: Tensor, feature: Tensor, prior: Raw | None) -> Raw:
        """Return mean and log σ before the clamp.

        Arguments:
            evidence: the encoder's feature for this group.
            feature: the decoder's feature, from which the prior is computed.
            prior: the prior's mean and log σ before the clamp, to which the net's outputs are added; or None.
        """
        joined = evidence if self.combine is None else evidence + self.combine(feature)
        raw = Raw.of(self.normal(joined))
        return raw if prior is None else Raw(raw.mean + prior.mean, raw.log_std + prior.log_std)

    def transport(self, z: Tensor) -> Tensor:
        """Return z after the flows."""
        for flow in self.flows:
            z = flow(z)
        return z


class Encoder(nn.Module):
    """The bottom-up net and the posteriors of all groups.

    Arguments:
        structure: the sizes.
        channels: channels of the image.
        residual: parametrise q by its difference from p.
    """

    def __init__(self, structure: Structure, channels: int, residual: bool) -> None:
        super().__init__()
        base, count = structure.encoder_channels, len(structure.scales)
        ops, se, last = structure.ops.pre, structure.squeeze_excite, structure.pre_cells - 1
        self.residual = residual
        self.stem = WNConv2d(channels, base, 3)
        self.pre = ModuleList(
            Cell(ops, base * 2**block, 2 if cell == last else 1, se)
            for block in range(structure.blocks)
            for cell in range(structure.pre_cells)
        )
        self.steps = ModuleList(BottomUp(structure, i) for i in reversed(range(count)))
        self.activation = ELU()
        self.top = WNConv2d(base * structure.shrink(0), base * structure.shrink(0), 1)
        self.groups = ModuleList(PosteriorGroup(structure, i) for i in range(count))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the feature for each group, top-down, of images x `(B, C, H, W)`."""
        feature = self.stem(x)
        for cell in self.pre:
            feature = cell(feature)
        kept: list[Tensor] = []
        for step in self.steps:
            read, feature = step(feature)
            kept.append(read)
        kept[-1] = self.activation(self.top(self.activation(kept[-1])))
        return kept[::-1]

    def posterior(self, index: int, evidence: Tensor, feature: Tensor, prior: Raw | None) -> Normal:
        """Return q(z_i | z_above, x) before the flows, see `PosteriorGroup.raw`."""
        return clamped_normal(*self.groups[index].raw(evidence, feature, prior if self.residual else None))
