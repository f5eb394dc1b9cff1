"""Convolutional energies that depend on the level of a diffusion."""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm.interfaces import EnergyRecipe
from hebm.latents import LatentLayout
from hebm_plugins.energies.conv_time_nets import PlainNet, ResidualNet
from hebm_plugins.energies.coordinates import COORDINATE_DOC, COORDINATES, seen_shapes
from hebm_plugins.energies.layerwise_time import LayerwiseTimeEnergy
from hebm_plugins.energies.maps import expect_maps

NETS: dict[str, type[ResidualNet | PlainNet]] = {"residual": ResidualNet, "plain": PlainNet}
_CHANNELS = {"residual": 128, "plain": 64}


@recipe
class ConvTime(EnergyRecipe):
    """f(z, t) = Σ_i f_i(z_i, t), one convolutional net per spatial layer, for all levels t (arXiv 2405.13910).

    The published nets are `net = "residual"` with 128 channels for CIFAR-10 (2.1 M parameters for a layer of
    20×16×16) and `net = "plain"` with 64 channels for CelebA-HQ-256. The paper's layers are 8×8 or larger; smaller
    ones are halved once here. Without labels, f starts near 0 but not at 0, since a spectrally normalised map cannot
    be 0.

    Example:
        >>> from hebm import ImageSpec, NVAETiny
        >>> backbone = NVAETiny().build(ImageSpec(1, 32, 32))
        >>> energy = ConvTime(channels=8).build(backbone.layout, levels=3)
        >>> len(energy.nets) == len(backbone.layout)
        True
    """

    net: str = option(
        "residual", doc="kind of net: residual (published for CIFAR-10) or plain (CelebA-HQ-256)", choices=tuple(NETS)
    )
    channels: int | None = option(
        None, doc="channels of every convolution; left out: 128 if residual, 64 if plain", low=1
    )
    spectral_norm: bool = option(True, doc="keep the largest singular value of every weight near 1")
    coordinate: str = option("z", doc=COORDINATE_DOC, choices=COORDINATES)

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> LayerwiseTimeEnergy:
        """Build one net for each layer of this layout, whatever the number of levels.

        Raises `ConfigError` for a layer that is not a map of at least 2x2.
        """
        expect_maps(layout, "conv-time", instead="mlp-time", side=2)
        channels = self.channels or _CHANNELS[self.net]
        shapes = seen_shapes(layout, self.coordinate)
        nets = [NETS[self.net](shape, channels, logits, self.spectral_norm) for shape in shapes]
        return LayerwiseTimeEnergy(nets, self.coordinate, layout, together=True)
