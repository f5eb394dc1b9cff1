"""The recipe of NVAE, and a small preset."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import BackboneRecipe, ImageSpec
from hebm.latents import LatentLayout
from hebm.likelihoods import BernoulliPixels, PixelDistribution
from hebm_plugins.nvae.backbone import NVAEBackbone
from hebm_plugins.nvae.cells import ARCHITECTURES
from hebm_plugins.nvae.decoder import Decoder
from hebm_plugins.nvae.encoder import Encoder
from hebm_plugins.nvae.objective import NVAEObjective
from hebm_plugins.nvae.recalibration import Recalibration
from hebm_plugins.nvae.structure import Structure, groups_per_scale
from hebm_plugins.pixels.clamped_normal import ClampedNormalPixels
from hebm_plugins.pixels.logistic_mixture import LogisticMixturePixels


@recipe
class NVAE(BackboneRecipe):
    """p(x, z) = p(x|z) N(z_0; 0, 1.01²) Π_i N(z_i; μ_i(z_above), σ_i(z_above)²): NVAE (arXiv 2007.03898).

    The latents are groups of shape [L, r, r] at several scales. The finest scale has r = image side / 2^blocks, and
    each coarser scale half of it; channels double with every halving. q(z|x) follows the same top-down pass.
    `benchmarks/nvae` has one file for each published configuration.

    Example:
        >>> from hebm import ImageSpec
        >>> backbone = NVAE(channels=4, groups=1, latent_channels=2).build(ImageSpec(3, 32, 32))
        >>> backbone.layout.shapes
        ((2, 8, 8), (2, 16, 16))
    """

    channels: int = option(32, doc="encoder channels at the image's resolution", low=2)
    decoder_channels: int | None = option(None, doc="decoder channels; by default the encoder's", low=1)
    scales: int = option(2, doc="resolutions that have latents", low=1, high=10)
    groups: int = option(
        10, doc="latent groups of the finest scale; of every scale without adaptive_groups", low=1, high=1000
    )
    adaptive_groups: bool = option(False, doc="halve the number of groups at each coarser scale")
    min_groups: int = option(1, doc="smallest number of groups of a scale with adaptive_groups", low=1, high=1000)
    latent_channels: int = option(20, doc="latent channels L of every group", low=1)
    blocks: int = option(1, doc="halvings of the image before the finest latents", low=0, high=100)
    pre_cells: int = option(2, doc="encoder cells for each of these halvings", low=1, high=100)
    post_cells: int = option(2, doc="decoder cells for each of these doublings", low=1, high=100)
    encoder_cells: int = option(2, doc="encoder cells per group", low=0, high=100)
    decoder_cells: int = option(2, doc="decoder cells per group", low=0, high=100)
    architecture: str = option("res_mbconv", doc="operations of the cells", choices=tuple(ARCHITECTURES))
    squeeze_excite: bool = option(True, doc="squeeze and excitation in every cell: scale channels by their content")
    residual_posterior: bool = option(True, doc="parametrise q(z_i|·) by its difference from p(z_i|z_above)")
    flows: int = option(0, doc="volume-preserving flows per group of the posterior", low=0, high=100)
    likelihood: str | None = option(
        None,
        doc="p(x|z); by default bernoulli for grey images, a mixture of discretised logistics for colour images",
        choices=("logistic-mixture", "gaussian", "bernoulli"),
    )
    mixtures: int = option(10, doc="components of the logistic mixture", low=1, high=100)
    bits: int = option(8, doc="bits per colour, to which images are reduced first", low=1, high=8)
    log_sigma_floor: float | None = option(
        None, doc="lower bound of log σ of the Gaussian likelihood (arXiv 2010.00654: -2)"
    )
    pad: int = option(
        0, doc="black pixels added on each side, which the likelihood does not score", low=0, high=1024, unit="px"
    )
    objective: NVAEObjective = option(factory=NVAEObjective, doc="the loss")
    recalibration: Recalibration = option(factory=Recalibration, doc="BatchNorm statistics after training")

    @property
    def structure(self) -> Structure:
        """Return the sizes of scales, groups and cells."""
        return Structure(
            groups=groups_per_scale(self.scales, self.groups, self.adaptive_groups, self.min_groups),
            latent_channels=self.latent_channels,
            encoder_channels=self.channels,
            decoder_channels=self.decoder_channels or self.channels,
            blocks=self.blocks,
            pre_cells=self.pre_cells,
            post_cells=self.post_cells,
            encoder_cells=self.encoder_cells,
            decoder_cells=self.decoder_cells,
            ops=ARCHITECTURES[self.architecture],
            squeeze_excite=self.squeeze_excite,
            flows=self.flows,
        )

    def layout(self, images: ImageSpec) -> LatentLayout:
        """Return [L, H/2^k, W/2^k] per group, top first. Raises `ConfigError` for a side that does not divide."""
        structure, sides = self.structure, (images.height + 2 * self.pad, images.width + 2 * self.pad)
        factor = structure.shrink(0)
        if any(side % factor for side in sides):
            raise ConfigError(
                f"backbone: {self.blocks} blocks and {self.scales} scales need sides that {factor} divides, and the "
                f"images are {images.height}x{images.width} with pad = {self.pad}; set backbone.pad, or fewer scales"
            )
        shrinks = [structure.shrink(scale) for scale in structure.scales]
        shapes = tuple((self.latent_channels, sides[0] // k, sides[1] // k) for k in shrinks)
        *_, last = features = [(structure.decoder_channels * k, sides[0] // k, sides[1] // k) for k in shrinks]
        return LatentLayout(shapes, image=images.shape, features=tuple(features), last_feature=last)

    def build(self, images: ImageSpec) -> NVAEBackbone:
        """Build the backbone. Raises `ConfigError` for images that do not fit the scales or the likelihood."""
        layout, structure = self.layout(images), self.structure
        outputs, pixels = self._pixels(images)
        height, width = images.height + 2 * self.pad, images.width + 2 * self.pad
        return NVAEBackbone(
            structure=structure,
            encoder=Encoder(structure, images.channels, self.residual_posterior),
            decoder=Decoder(structure, height, width, outputs),
            layout=layout,
            pixels=pixels,
            bits=self.bits,
            pad=self.pad,
            settings=self.objective,
            recalibration=self.recalibration,
        )

    def _pixels(self, images: ImageSpec) -> tuple[int, Callable[[Tensor], PixelDistribution]]:
        """Return the number of channels of p(x|z)'s parameters, and the distribution that they parametrise."""
        likelihood = self.likelihood or ("bernoulli" if images.channels == 1 else "logistic-mixture")
        if likelihood == "bernoulli":
            return images.channels, BernoulliPixels
        if images.channels != 3:
            raise ConfigError(
                f"backbone.likelihood: {likelihood!r} is for colour images, and these have {images.channels} "
                'channel(s); use "bernoulli", or set data.channels = 3'
            )
        if likelihood == "gaussian":
            return 6, partial(ClampedNormalPixels, log_sigma_floor=self.log_sigma_floor, bits=self.bits)
        return 10 * self.mixtures, partial(LogisticMixturePixels, bits=self.bits)


@recipe
class NVAETiny(NVAE):
    """`nvae` (arXiv 2007.03898) at a size for two CPU cores.

    It has 2 scales of 3 groups, 16 channels, 4 latent channels, and cells without bottlenecks. The sizes are hebm's
    own.

    Example:
        >>> from hebm import ImageSpec
        >>> NVAETiny().build(ImageSpec(1, 32, 32)).layout.dim
        960
    """

    channels: int = option(16, doc="encoder channels at the image's resolution", low=2)
    groups: int = option(
        3, doc="latent groups of the finest scale; of every scale without adaptive_groups", low=1, high=1000
    )
    latent_channels: int = option(4, doc="latent channels L of every group", low=1)
    blocks: int = option(2, doc="halvings of the image before the finest latents", low=0, high=100)
    pre_cells: int = option(1, doc="encoder cells for each of these halvings", low=1, high=100)
    post_cells: int = option(1, doc="decoder cells for each of these doublings", low=1, high=100)
    encoder_cells: int = option(1, doc="encoder cells per group", low=0, high=100)
    decoder_cells: int = option(1, doc="decoder cells per group", low=0, high=100)
    architecture: str = option("res_bnswish", doc="operations of the cells", choices=tuple(ARCHITECTURES))
