"""The sizes of an NVAE: its scales, groups and channels."""

from __future__ import annotations

import attrs

from hebm_plugins.nvae.cells import Ops


@attrs.frozen
class Structure:
    """The sizes of an NVAE. Scale 0 is the coarsest, and channels double with every halving of the resolution.

    Arguments:
        groups: latent groups per scale, coarsest first.
        latent_channels: L of every group.
        encoder_channels, decoder_channels: channels at the image's resolution.
        blocks: halvings before the finest latent.
        pre_cells, post_cells: cells per such block, in encoder and decoder.
        encoder_cells, decoder_cells: cells per group.
        ops: the ops of the cells.
        squeeze_excite: use squeeze and excitation in every cell.
        flows: number of flows per group of the posterior.
    """

    groups: tuple[int, ...]
    latent_channels: int
    encoder_channels: int
    decoder_channels: int
    blocks: int
    pre_cells: int
    post_cells: int
    encoder_cells: int
    decoder_cells: int
    ops: Ops
    squeeze_excite: bool
    flows: int

    @property
    def scales(self) -> tuple[int, ...]:
        """Return the scale of each group, top-down."""
        return tuple(scale for scale, n in enumerate(self.groups) for _ in range(n))

    def shrink(self, scale: int) -> int:
        """Return the number of image pixels per latent pixel along a side, also the growth factor of the channels."""
        return int(2 ** (self.blocks + len(self.groups) - 1 - scale))

    def ends_scale(self, group: int) -> bool:
        """Whether a group (top-down index) is the last of its scale; False at the finest scale."""
        scales = self.scales
        return group + 1 < len(scales) and scales[group + 1] != scales[group]


def groups_per_scale(scales: int, groups: int, adaptive: bool, least: int) -> tuple[int, ...]:
    """Return the number of groups of each scale, coarsest first.

    The finest scale has `groups`. The others have as many or, if `adaptive`, half as many as the next finer one, but at
    least `least`.
    """
    counts = [groups]
    for _ in range(scales - 1):
        counts.append(max(least, counts[-1] // 2) if adaptive else groups)
    return tuple(reversed(counts))
