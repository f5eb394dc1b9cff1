"""The recipe of the flat-latent generator."""

from __future__ import annotations

from torch import nn

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import BackboneRecipe, ImageSpec
from hebm.latents import LatentLayout
from hebm_plugins.energies.mlp import ACTIVATIONS
from hebm_plugins.two_layer import nets
from hebm_plugins.two_layer.backbone import InferringTwoLayer, TwoLayerBackbone


@recipe
class TwoLayer(BackboneRecipe):
    """p(x, z) = p(x|z_1) N(z_L; 0, s² I) Π_{i<L} N(z_i; μ_i(z_{i+1}), σ_i²(z_{i+1})), with L ≥ 1 flat latent layers.

    This is the generator of the joint-learning papers, small by default, for images of 8 to 64 pixels a side. The
    published sizes are `two-layer-joint` (arXiv 2306.06323) and `two-layer-multi-stage` (Table 11 of its paper).

    Example:
        >>> from hebm import ImageSpec
        >>> TwoLayer(z_dims=(8, 24)).build(ImageSpec(1, 28, 28)).layout.shapes
        ((8,), (24,))
    """

    z_dims: tuple[int, ...] = option((16, 32), doc="size of each latent layer, top first", low=1)
    generator: str = option("conv", doc="network of p(x|z_1)", choices=("conv", "mlp"))
    widths: tuple[int, ...] = option((64, 32), doc="channels (conv) or units (mlp), from z_1 to the image", low=1)
    head: str = option(
        "upsample",
        doc="last layer of the generator: kernel 3, stride 1 (conv) or kernel 4, stride 2 (upsample)",
        choices=("conv", "upsample"),
    )
    likelihood: str = option("gaussian", doc="likelihood p(x|z)", choices=("gaussian", "bernoulli"))
    pixel_std: float = option(0.3, doc="σ of the Gaussian likelihood", unit="x, in [−1, 1]", above=0)
    prior_width: int = option(128, doc="hidden units of p(z_i|z_{i+1})", low=1)
    prior_depth: int = option(2, doc="hidden layers of p(z_i|z_{i+1})", low=1, high=1000)
    prior_activation: str = option("leaky-relu", doc="activation of p(z_i|z_{i+1})", choices=tuple(ACTIVATIONS))
    sigma_offset: float = option(0.01, doc="constant added to every σ of the prior", low=0)
    log_sigma_bound: float = option(
        3.0,
        doc="soft bound of log σ of p(z_i|z_{i+1}); with 0 (no bound) a tilt may grow as exp exp u, and chains diverge",
        low=0,
    )
    inference: str = option("top-down", doc="inference model q(z|x)", choices=("top-down", "bottom-up", "none"))
    inference_width: int = option(256, doc="features and hidden units of q(z|x)", low=1)

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` for no layers or no widths."""
        for key in ("z_dims", "widths"):
            if not getattr(self, key):
                raise ConfigError(f"backbone.{key} is empty; give at least one number")

    def build(self, images: ImageSpec) -> TwoLayerBackbone:
        """Build the backbone.

        Raises `ConfigError` for images outside 8 to 64 pixels, other than 1 or 3 channels, or unfit widths.
        """
        _check_images(images)
        above = zip(self.z_dims[:-1], self.z_dims[1:], strict=True)
        hidden = (self.prior_width,) * self.prior_depth
        conditionals = [
            nets.ConditionalNormal(
                (a, *hidden, b), self.prior_activation, self.sigma_offset, self.log_sigma_bound or None
            )
            for a, b in above
        ]
        layout = LatentLayout.markov(tuple((d,) for d in self.z_dims), images.shape)
        generator, offset = self._generator(images), self.sigma_offset
        pixel_std = self.pixel_std if self.likelihood == "gaussian" else None
        if self.inference == "none":
            return TwoLayerBackbone(layout, conditionals, generator, pixel_std, offset)
        return InferringTwoLayer(layout, conditionals, generator, pixel_std, offset, self._inference(images))

    def _generator(self, images: ImageSpec) -> nn.Module:
        squash = self.likelihood == "gaussian"
        if self.generator == "mlp":
            return nets.mlp_generator(self.z_dims[-1], self.widths, images, squash)
        return nets.conv_generator(self.z_dims[-1], self.widths, images, self.head, squash)

    def _encoder(self, images: ImageSpec, features: int) -> nn.Module:
        if self.generator == "mlp":
            return nets.mlp_encoder(self.widths, images, features)
        return nets.conv_encoder(self.widths, images, self.head, features)

    def _inference(self, images: ImageSpec) -> nets.TopDownInference | nets.BottomUpInference:
        width, offset = self.inference_width, self.sigma_offset
        if self.inference == "top-down":
            return nets.TopDownInference(self._encoder(images, width), self.z_dims, width, width, offset)
        return nets.BottomUpInference(self._encoder(images, 2 * self.z_dims[-1]), self.z_dims, width, offset)


def _check_images(images: ImageSpec) -> None:
    if images.channels not in (1, 3) or not all(8 <= side <= 64 for side in (images.height, images.width)):
        raise ConfigError(
            f"backbone: images of {images.channels} channels and {images.height}x{images.width} pixels do not fit; "
            "this backbone takes 1 or 3 channels and 8 to 64 pixels a side; resize the images, or use another backbone"
        )
