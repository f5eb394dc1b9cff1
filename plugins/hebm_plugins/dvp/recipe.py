"""The recipe of DVP-VAE's backbone, and of the ladder VAE that it is compared with."""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import BackboneRecipe, ImageSpec
from hebm.latents import LatentLayout
from hebm_plugins.dvp.backbone import DVPBackbone, Head
from hebm_plugins.dvp.decoder import LadderLayer, LayerSize
from hebm_plugins.dvp.encoder import Encoder
from hebm_plugins.dvp.pseudo_inputs import BOUNDS, PSEUDO_INPUTS, PseudoInput
from hebm_plugins.dvp.structure import Scale, scales_of
from hebm_plugins.pixels.dvp_outputs import LIKELIHOODS, pixel_output

NONE = "none"


@recipe
class DVP(BackboneRecipe):
    """DVP-VAE, a ladder VAE that first draws a pseudo-input c, which every layer sees (arXiv 2412.01373).

        p(x, z, c) = p(c) Π_l p(z_l | z_<l, c) p(x|z)
        q(z, c | x) = r(c|x) Π_l q(z_l | z_<l, c, x)

    The nets have no normalisation layers. c is drawn by a prior that draws a context (`prior` or `prior.root` of type
    "dvp"). With `pseudo_input = "none"` the backbone is a plain ladder VAE without c, which works with any prior.
    `benchmarks/dvp` has one file for each published configuration.

    hebm follows the published code in the two places where it differs from the paper. In the paper, r(c|x) is
    N(f(x), σ² I); the code learns one variance per coefficient. For p(x|z), the paper averages the latents; the
    code divides their sum by √L.

    Example:
        >>> from hebm import ImageSpec
        >>> DVP(latents=(1, 2)).build(ImageSpec(1, 28, 28)).layout.shapes
        ((1, 7, 7), (1, 14, 14), (1, 14, 14))
    """

    latents: tuple[int, ...] = option((4, 4), doc="number of layers of each scale, the coarsest (top) first", low=1)
    full_resolution: bool = option(False, doc="put the finest scale at the image's resolution, instead of half of it")
    width: int | None = option(None, doc="channels of a latent; by default the image's, as `aggregate` needs", low=1)
    channels: int = option(32, doc="feature channels of the finest scale", low=1)
    growth: float = option(
        1.0, doc="factor by which channels grow from a scale to the next coarser one", above=0, high=64
    )
    bottleneck: float = option(1.0, doc="ratio of a block's hidden channels to its channels", above=0, high=64)
    encoder_blocks: int = option(3, doc="residual blocks per scale of the encoder", low=1, high=1000)
    decoder_blocks: int = option(1, doc="residual blocks per latent of the decoder", low=1, high=1000)
    depthwise: bool = option(False, doc="use one depthwise 5x5 convolution in decoder blocks, instead of two 3x3")
    log_var_bounds: tuple[float, float] = option((-10.0, 1.0), doc="bounds of log σ² of prior and posterior")
    aggregate: bool = option(True, doc="compute p(x|z) from the sum of all latents / √L, instead of the last state")
    pseudo_input: str = option(
        "dct", doc="computation of c from x; none for a plain ladder VAE without c", choices=(*PSEUDO_INPUTS, NONE)
    )
    context_size: int = option(7, doc="S: c has S x S numbers per colour", low=1, high=1024)
    context_log_var: float = option(
        -6.0, doc="initial log variance of r(c|x), equal to γ_min of the diffusion prior", low=BOUNDS[0], high=BOUNDS[1]
    )
    statistics: int = option(
        50_001,
        doc="number of training images for the DCT's scale; the first ones are used, as published; 0 for all",
        low=0,
    )
    input_levels: tuple[float, float] | None = option(
        None,
        doc="mean and standard deviation of pixel levels, for standardising the encoder's input",
        unit="of 0 to 255",
    )
    likelihood: str | None = option(
        None,
        doc="p(x|z); by default bernoulli for binary images, logistic-mixture for colour images, gaussian for others",
        choices=LIKELIHOODS,
    )
    pixel_std: float = option(0.1, doc="σ of the Gaussian likelihood", unit="x, in [−1, 1]", above=0)
    mixtures: int = option(10, doc="components of the logistic mixture", low=1, high=1000)

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` for bounds in the wrong order, or a standard deviation that is not positive."""
        if self.log_var_bounds[0] >= self.log_var_bounds[1]:
            raise ConfigError(f"backbone.log_var_bounds = {list(self.log_var_bounds)}: give the lower bound first")
        if self.input_levels is not None and self.input_levels[1] <= 0:
            raise ConfigError(
                f"backbone.input_levels = {list(self.input_levels)}: the second number, the standard deviation, "
                "must be above 0"
            )

    def build(self, images: ImageSpec) -> DVPBackbone:
        """Build the backbone. Raises `ConfigError` if scales, pseudo-input or likelihood do not fit the images."""
        scales = scales_of(images, self.latents, self.channels, self.growth, self.full_resolution)
        if int(min(scale.channels for scale in scales) * self.bottleneck) < 1:
            raise ConfigError(f"backbone.bottleneck = {self.bottleneck} leaves blocks without channels; increase it")
        width, pixels = self._width(images), pixel_output(images, self.likelihood, self.mixtures, self.pixel_std)
        pseudo_input = self._pseudo_input(images, scales)
        top_first = [scale for scale in reversed(scales) for _ in range(scale.latents)]
        shapes = tuple((width, *scale.size) for scale in top_first)
        return DVPBackbone(
            layout=LatentLayout(shapes, None if pseudo_input is None else pseudo_input.shape, images.shape),
            pseudo_input=pseudo_input,
            encoder=Encoder(images.channels, scales, self.encoder_blocks, self.bottleneck, self.input_levels),
            layers=self._layers(top_first, width, images, 0 if pseudo_input is None else images.channels),
            head=Head(width if self.aggregate else scales[0].channels, scales[0].channels, pixels.channels),
            pixels=pixels.distribution,
            size=(images.height, images.width),
            aggregate=self.aggregate,
            statistics=self.statistics or None,
        )

    def _width(self, images: ImageSpec) -> int:
        if self.aggregate and self.width not in (None, images.channels):
            raise ConfigError(
                f"backbone.width = {self.width}: with aggregate, latents are added as images, so they need "
                f"{images.channels} channel(s); remove width, or set backbone.aggregate = false"
            )
        return self.width or images.channels

    def _pseudo_input(self, images: ImageSpec, scales: tuple[Scale, ...]) -> PseudoInput | None:
        if self.pseudo_input == NONE:
            return None
        if self.context_size > min(images.height, images.width):
            raise ConfigError(
                f"backbone.context_size = {self.context_size}: images of {images.height}x{images.width} pixels have "
                f"fewer frequencies per side; give at most {min(images.height, images.width)}"
            )
        return PSEUDO_INPUTS[self.pseudo_input](images, self.context_size, self.context_log_var)

    def _layers(self, top_first: list[Scale], width: int, images: ImageSpec, seen: int) -> list[LadderLayer]:
        full, count = (images.height, images.width), len(top_first)
        sizes = []
        for i, scale in enumerate(top_first):
            below = top_first[i + 1] if i + 1 < count else None
            sizes.append(
                LayerSize(
                    size=scale.size,
                    channels=scale.channels,
                    width=width,
                    hidden=int(scale.channels * self.bottleneck),
                    seen=seen,
                    outputs=scale.channels if below is None else below.channels,
                    next_size=full if below is None else below.size,
                )
            )
        last_used = not self.aggregate
        return [
            LadderLayer(
                size, count, self.decoder_blocks, self.log_var_bounds, self.depthwise, i + 1 < count or last_used
            )
            for i, size in enumerate(sizes)
        ]
