"""The recipe of the convolutional hierarchical VAE."""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import BackboneRecipe, ImageSpec
from hebm.latents import LatentLayout
from hebm_plugins.hvae.backbone import HVAEBackbone
from hebm_plugins.hvae.inference import BottomUp, SharedPath
from hebm_plugins.hvae.nets import ConditionalNormal, Path
from hebm_plugins.hvae.pyramid import Pyramid, levels_of, pyramid_for
from hebm_plugins.pixels.outputs import LIKELIHOODS, pixel_output

POSTERIOR_BOUND = 5.0
"""Soft bound of log σ of q(z|x). It is far outside the range of useful σ, and keeps early steps finite."""


@recipe
class HVAE(BackboneRecipe):
    """A plain convolutional hierarchical VAE with L ≥ 1 layers, flat or spatial, and bottom-up inference.

        p(x, z) = p(x|z_1) N(z_L; 0, I) Π_{i<L} N(z_i; μ_i(z_{i+1}), σ_i²(z_{i+1}))
        q(z|x)  = q(z_1|x) Π_{i<L} q(z_{i+1}|z_i)      with inference = "bottom-up"
        q(z|x)  = Π_i q(z_i|h_i(x))                    with inference = "shared"

    where h_1, …, h_L are the features of one deterministic bottom-up path. The second backbone of the diffusion paper
    (arXiv 2405.13910, section 5.5) is a 3-layer HVAE with bottom-up inference. The paper gives no sizes; the defaults
    here are hebm's own.

    Example:
        >>> from hebm import ImageSpec
        >>> HVAE(layers=3).build(ImageSpec(1, 28, 28)).layout.shapes
        ((32,), (32,), (4, 7, 7))
    """

    layers: int | None = option(
        None, doc="L, the number of latent layers; by default the length of z_strides, or 3", low=1, high=1000
    )
    z_strides: tuple[int, ...] | None = option(
        None,
        doc="image side / layer side, top first; 0 for a flat layer. By default flat layers over one map of 7 or 8 "
        "pixels",
        low=0,
    )
    z_channels: int | tuple[int, ...] | None = option(
        None,
        doc="channels of each layer (size if flat), top first, or one number for all; by default 32 if flat, and "
        "4 (grey) or 8 (colour) if spatial",
        low=1,
    )
    channels: int = option(32, doc="feature channels at half the image's resolution", low=1)
    units: int = option(256, doc="hidden features of the nets of flat layers", low=1)
    blocks: int = option(1, doc="residual blocks after every change of resolution", low=0, high=1000)
    inference: str = option("bottom-up", doc="inference model q(z|x)", choices=("bottom-up", "shared"))
    likelihood: str | None = option(
        None,
        doc="p(x|z); by default bernoulli for binary images, logistic-mixture for colour images, gaussian for others",
        choices=LIKELIHOODS,
    )
    pixel_std: float = option(0.1, doc="σ of the Gaussian likelihood", unit="x, in [−1, 1]", above=0)
    mixtures: int = option(5, doc="components of the mixture of logistics", low=1, high=1000)
    bits: int = option(8, doc="bits per colour at which the mixture of logistics scores pixels", low=1, high=8)
    log_sigma_bound: float = option(
        3.0, doc="soft bound of log σ of p(z_i|z_{i+1}); without it, chains of learned priors diverge", above=0
    )
    kl_warmup: float = option(
        0.0, doc="fraction of training over which the KL's weight rises from 0 to 1", low=0, high=1
    )

    def build(self, images: ImageSpec) -> HVAEBackbone:
        """Build the backbone. Raises `ConfigError` if strides do not divide the images, or layers do not match."""
        pyramid = pyramid_for(images, self.channels, self.units)
        levels = levels_of(self._strides(pyramid), pyramid)
        channels = self._channels(levels, pyramid, images.channels)
        pixels = pixel_output(images, self.likelihood, self.pixel_std, self.mixtures, self.bits)
        shapes = tuple(pyramid.shape(level, c) for level, c in zip(levels, channels, strict=True))
        return HVAEBackbone(
            layout=LatentLayout.markov(shapes, images.shape),
            conditionals=self._conditionals(pyramid, levels, channels, self.log_sigma_bound),
            generator=Path(pyramid, levels[-1], 0, (channels[-1], pixels.channels), self.blocks),
            pixels=pixels.distribution,
            inference=self._inference(pyramid, levels, channels, images.channels),
            kl_warmup=self.kl_warmup,
        )

    def _strides(self, pyramid: Pyramid) -> tuple[int, ...]:
        """Return the given strides, or flat layers over one spatial layer."""
        if self.z_strides is None:
            return (0,) * ((self.layers or 3) - 1) + (2**pyramid.middle,)
        if self.layers not in (None, len(self.z_strides)):
            raise ConfigError(
                f"backbone.z_strides has {len(self.z_strides)} entries for backbone.layers = {self.layers}; "
                "give one per layer, or leave layers out"
            )
        return self.z_strides

    def _channels(self, levels: tuple[int, ...], pyramid: Pyramid, pixels: int) -> tuple[int, ...]:
        """Return the given channels, or 32 for a flat layer and, for a spatial one, 4 (grey) or 8 (colour)."""
        if self.z_channels is None:
            return tuple(32 if level == pyramid.flat else 4 if pixels == 1 else 8 for level in levels)
        channels = (self.z_channels,) * len(levels) if isinstance(self.z_channels, int) else self.z_channels
        if len(channels) != len(levels):
            raise ConfigError(
                f"backbone.z_channels has {len(channels)} entries for {len(levels)} latent layers; "
                f"give one number or {len(levels)}, or set backbone.layers"
            )
        return channels

    def _conditionals(
        self, pyramid: Pyramid, levels: tuple[int, ...], channels: tuple[int, ...], bound: float
    ) -> list[ConditionalNormal]:
        """Build nets from each layer to the next in order."""
        steps = zip(levels[:-1], levels[1:], channels[:-1], channels[1:], strict=True)
        return [ConditionalNormal(Path(pyramid, a, b, (c, 2 * d), self.blocks), bound) for a, b, c, d in steps]

    def _inference(
        self, pyramid: Pyramid, levels: tuple[int, ...], channels: tuple[int, ...], pixels: int
    ) -> BottomUp | SharedPath:
        upwards, sizes = (0, *levels[::-1]), (pixels, *channels[::-1])
        if self.inference == "bottom-up":
            return BottomUp(self._conditionals(pyramid, upwards, sizes, POSTERIOR_BOUND))
        features = (pixels, *(pyramid.features(level) for level in upwards[1:]))
        steps = zip(upwards[:-1], upwards[1:], features[:-1], features[1:], strict=True)
        paths = [Path(pyramid, a, b, (c, d), self.blocks) for a, b, c, d in steps]
        heads = [
            ConditionalNormal(Path(pyramid, level, level, (h, 2 * c), 0), POSTERIOR_BOUND)
            for level, h, c in zip(upwards[1:], features[1:], sizes[1:], strict=True)
        ]
        return SharedPath(paths, heads)
