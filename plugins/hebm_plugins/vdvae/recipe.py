"""The recipe of VDVAE, and a small preset."""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import BackboneRecipe, ImageSpec
from hebm.latents import LatentLayout
from hebm_plugins.pixels.logistic_mixture import MixtureScoring
from hebm_plugins.pixels.outputs import LIKELIHOODS, pixel_output
from hebm_plugins.vdvae.backbone import VDVAEBackbone
from hebm_plugins.vdvae.nets import Decoder, Encoder
from hebm_plugins.vdvae.normalisation import PUBLISHED, Constants, Given, Measured, Normalisation
from hebm_plugins.vdvae.presets import CIFAR10
from hebm_plugins.vdvae.structure import Structure, default_strings, parse_blocks, parse_widths

ENCODER = (
    'blocks of the encoder: "RxN" for N blocks at side R, "RdK" for one that then pools by K; "" for two at each side, '
    "which is halved while it is even and at least 8, and then is 1"
)
DECODER = (
    'blocks of the decoder, top first: "RxN", and "RmK" for one that adds the enlarged map of side K; "" for two at '
    "every side of the encoder's, and one at side 1 and at the image's"
)
SCORING = MixtureScoring(highest=0.999, spread=False)
"""How the published code scores pixels: only level 255 counts as highest, and 5-bit levels are not spread."""


@recipe
class VDVAE(BackboneRecipe):
    """p(x, z) = p(x|z) Π_i N(z_i; μ_i(z_above), σ_i(z_above)²) with tens of layers: VDVAE (arXiv 2011.10650).

    Every decoder block is a latent layer of shape [Z, R, R]; `decoder` lists their resolutions R, from 1 to the
    image's. q(z|x) follows the same top-down pass. The defaults are the published model for CIFAR-10;
    `benchmarks/vdvae` has one file for each published configuration. Images must be square.

    With `bits = 5` the likelihood is the published one, which is not a probability: its levels are 16/255 apart, its
    bins 2/31 wide, so the masses of all levels sum to about 1.03. Do not compare its bits per dimension with others.

    Example:
        >>> from hebm import ImageSpec
        >>> recipe = VDVAE(encoder="32x1,32d4,8x1,8d8,1x1", decoder="1x1,8m1,32m8", width=16, latent_channels=2)
        >>> recipe.build(ImageSpec(3, 32, 32)).layout.shapes
        ((2, 1, 1), (2, 8, 8), (2, 32, 32))
    """

    encoder: str = option(CIFAR10.backbone["encoder"], doc=ENCODER)
    decoder: str = option(CIFAR10.backbone["decoder"], doc=DECODER)
    width: int = option(384, doc="channels of maps, and of the image's resolution", low=1)
    widths: str = option("", doc='channels of some resolutions, "R:w,R:w"')
    latent_channels: int = option(16, doc="channels Z of every latent layer", low=1)
    bottleneck: float = option(0.25, doc="inner channels of a block, as a fraction of its width", above=0, high=4)
    no_bias_above: int = option(
        64, doc="largest side of a map that starts from a learned bias; larger ones start from zeros", low=0
    )
    likelihood: str | None = option(
        None,
        doc="p(x|z); by default bernoulli for binary images, logistic-mixture for colour images, gaussian for others",
        choices=LIKELIHOODS,
    )
    pixel_std: float = option(0.1, doc="σ of the Gaussian likelihood", unit="x, in [−1, 1]", above=0)
    mixtures: int = option(10, doc="components of the mixture of logistics", low=1, high=1000)
    bits: int = option(8, doc="bits per colour at which the mixture of logistics scores pixels", low=1, high=8)
    normalisation: str = option(
        "data",
        doc="mean and deviation that standardise the encoder's input: measured on the training images (before "
        "binarisation), or published",
        choices=("data", *PUBLISHED),
    )
    input_mean: float | None = option(
        None, doc="mean of the encoder's input instead of normalisation's, with input_std", unit="levels 0 to 255"
    )
    input_std: float | None = option(
        None, doc="deviation of the encoder's input, with input_mean", unit="levels 0 to 255", above=0
    )

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` if one of `input_mean` and `input_std` is missing."""
        if (self.input_mean is None) != (self.input_std is None):
            raise ConfigError("backbone: give both input_mean and input_std, or neither")

    def structure(self, side: int) -> Structure:
        """Return the sizes for images of this side. Raises `ConfigError` for strings that do not fit."""
        encoder, decoder = self._strings(side)
        structure = Structure(
            encoder=parse_blocks(encoder, "d", "backbone.encoder"),
            decoder=parse_blocks(decoder, "m", "backbone.decoder"),
            width=self.width,
            widths=parse_widths(self.widths),
            latent_channels=self.latent_channels,
            bottleneck=self.bottleneck,
            no_bias_above=self.no_bias_above,
            side=side,
        )
        structure.check()
        return structure

    def _strings(self, side: int) -> tuple[str, str]:
        encoder, decoder = default_strings(side)
        return self.encoder or encoder, self.decoder or decoder

    def build(self, images: ImageSpec) -> VDVAEBackbone:
        """Build the backbone. Raises `ConfigError` for images that do not fit the layer strings."""
        if images.height != images.width:
            raise ConfigError(
                f"backbone: images of {images.height}x{images.width} pixels are not square; set data.size"
            )
        structure = self.structure(images.height)
        output = pixel_output(images, self.likelihood, self.pixel_std, self.mixtures, self.bits, SCORING)
        features = tuple((structure.width_at(block.side), block.side, block.side) for block in structure.decoder)
        layout = LatentLayout(
            structure.shapes,
            image=images.shape,
            features=features,
            last_feature=(structure.width, images.height, images.width),
        )
        return VDVAEBackbone(
            encoder=Encoder(structure, images.channels),
            decoder=Decoder(structure, output.channels),
            layout=layout,
            pixels=output.distribution,
            normalisation=self._normalisation(),
        )

    def _normalisation(self) -> Normalisation:
        if self.input_mean is not None and self.input_std is not None:
            return Given(Constants(self.input_mean, self.input_std))
        return Measured() if self.normalisation == "data" else Given(PUBLISHED[self.normalisation])


@recipe
class VDVAETiny(VDVAE):
    """`vdvae` (arXiv 2011.10650) at a size for two CPU cores.

    It has two layers at every resolution but the highest, which has one, and maps of 32 channels. The sizes are hebm's
    own.

    Example:
        >>> from hebm import ImageSpec
        >>> VDVAETiny().build(ImageSpec(1, 28, 28)).layout.shapes
        ((4, 1, 1), (4, 7, 7), (4, 7, 7), (4, 14, 14), (4, 14, 14), (4, 28, 28))
    """

    encoder: str = option("", doc=ENCODER)
    decoder: str = option("", doc=DECODER)
    width: int = option(32, doc="channels of maps, and of the image's resolution", low=1)
    latent_channels: int = option(4, doc="channels Z of every latent layer", low=1)
