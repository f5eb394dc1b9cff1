"""The backbone `auto-encoder`: a trained VAE, passed in Python."""

from __future__ import annotations

from typing import Any

from hebm import registry
from hebm.config.recipes import live, option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import BackboneRecipe, ImageSpec
from hebm.latents import LatentLayout
from hebm_plugins.auto_encoder.backbone import AutoEncoderBackbone
from hebm_plugins.auto_encoder.moments import CHANNEL, NONE, SCALAR
from hebm_plugins.auto_encoder.pixels import BERNOULLI, DECODER, GAUSSIAN, Pixels, Range
from hebm_plugins.auto_encoder.vae import VAE


@recipe
class AutoEncoder(BackboneRecipe):
    """Your own trained VAE, passed in Python: `hebm.AutoEncoder(encode, decode, latent_shape=(16,))`.

    p(x, z) = p(x|z) N(z; m, diag s²), with m = 0 and s = 1 unless `standardise` fits them, and one layer of latents,
    flat or spatial. `encode` and `decode` are torch modules, or methods of one, such as `vae.encode` and `vae.decode`:

    - `encode(x)` returns the mean and the log-variance of q(z|x), two tensors `(B, *latent_shape)`.
    - `decode(z)` returns the mean of the images `(B, C, H, W)`, or what `likelihood` says.

    The weights are final: hebm trains the prior alone. The modules are neither copied nor trained. A run moves them to
    its device and type, as `module.to` does, and computes with them in eval mode. Checkpoints hold their weights.

    A run folder does not hold the modules' code. Another process opens it with the registered backbone `component`, or
    with the modules passed again: `hebm.open_run(PATH, backbone=hebm.AutoEncoder(…))`.

    Example:
        >>> import torch
        >>> from hebm import ImageSpec
        >>> class Tiny(torch.nn.Module):
        ...     def encode(self, x):
        ...         return x.flatten(1), torch.zeros_like(x.flatten(1))
        ...     def decode(self, z):
        ...         return z.unflatten(1, (1, 2, 2)).tanh()
        >>> tiny = Tiny()
        >>> backbone = AutoEncoder(tiny.encode, tiny.decode, latent_shape=(4,)).build(ImageSpec(1, 2, 2))
        >>> backbone.likelihood(backbone.latents(torch.zeros(3, 4))).mean.shape
        torch.Size([3, 1, 2, 2])
    """

    encode: Any = live(doc="maps images to mean and log-variance of q(z|x): a module, or a method of one")
    decode: Any = live(doc="maps latents to the mean of the images: a module, or a method of one")
    latent_shape: tuple[int, ...] = option(doc="shape of z without the batch: (D,) or (C, H, W)", low=1)
    likelihood: str = option(
        GAUSSIAN,
        doc="what decode returns: the mean of a Gaussian, logits of Bernoulli pixels, or a distribution (decoder)",
        choices=(GAUSSIAN, BERNOULLI, DECODER),
    )
    pixel_std: float = option(0.3, doc="σ of the Gaussian likelihood", unit="x, in [−1, 1]", above=0)
    range: tuple[float, float] = option(
        (-1.0, 1.0), doc="range of the images that encode reads and decode returns, black and white"
    )
    standardise: str = option(
        NONE,
        doc="fit z = shift + scale u to the training images before training: not at all, with one number each, or "
        "with one for each channel (each element of flat latents)",
        choices=(NONE, SCALAR, CHANNEL),
    )
    standardise_images: int = option(10000, doc="largest number of training images for standardise", low=2)
    component: str | None = option(
        None, doc="registered backbone that builds these modules in other processes; by default named after their class"
    )
    fingerprint: str | None = option(
        None, doc="SHA-256 of the weights, 64 hex digits; hebm computes it", pattern=r"[0-9a-f]{64}"
    )

    def __attrs_post_init__(self) -> None:
        """Check the parts, and compute fingerprint and component.

        Raises `ConfigError` for parts that are missing or are not modules, for other weights than those of the
        fingerprint, and for an impossible shape or range.
        """
        if len(self.latent_shape) not in (1, 3):
            raise ConfigError(f"AutoEncoder.latent_shape: use (D,) or (C, H, W), got {self.latent_shape}")
        if not self.range[0] < self.range[1]:
            raise ConfigError(f"AutoEncoder.range: use (black, white) with black < white, got {self.range}")
        if self.encode is None and self.decode is None and self.fingerprint is not None:
            return
        if self.encode is None or self.decode is None:
            raise ConfigError(
                "AutoEncoder: no VAE: pass two modules in Python, hebm.AutoEncoder(encode, decode, latent_shape=…). A "
                "file cannot hold them; `hebm init --plugin NAME --kind vae` writes a backbone that files can name"
            )
        self._identify(VAE(self.encode, self.decode))

    def _identify(self, vae: VAE) -> None:
        found = vae.fingerprint
        if self.fingerprint not in (None, found):
            raise ConfigError(
                f"AutoEncoder: these are not the weights of this run: their fingerprint is {found[:12]}…, the run's is "
                f"{str(self.fingerprint)[:12]}…; load the weights that it was started with, or start another run"
            )
        object.__setattr__(self, "fingerprint", found)
        object.__setattr__(self, "component", self.component or vae.component)

    def build(self, images: ImageSpec) -> AutoEncoderBackbone:
        """Build the backbone on the modules that were passed, or on those that `component` builds.

        Raises `ConfigError` if weights changed since the recipe was made, or no such component is registered.
        """
        passed = self.encode is not None
        vae, weights = (VAE(self.encode, self.decode), None) if passed else self._from_component(images)
        if passed and vae.fingerprint != self.fingerprint:
            raise ConfigError(
                "AutoEncoder: the VAE's weights have changed since hebm.AutoEncoder(…) was created; create it again"
            )
        layout = LatentLayout.markov((self.latent_shape,), images.shape)
        pixels = Pixels(self.likelihood, self.pixel_std, Range(*self.range), images.shape)
        expected = None if passed else self.fingerprint
        made = AutoEncoderBackbone(layout, vae, pixels, self.standardise, self.standardise_images, expected)
        return made.with_weights(weights)

    def _from_component(self, images: ImageSpec) -> tuple[VAE, str | None]:
        """Return the VAE that the registered component builds, and the file of its weights.

        Raises `ConfigError` if it cannot.
        """
        name = self.component or ""
        if name not in registry.names("hebm_backbones"):
            raise ConfigError(
                f"backbone: the VAE of this run came from Python (hebm.AutoEncoder, fingerprint "
                f"{str(self.fingerprint)[:12]}…), and its code is not in the run folder. The registered backbone "
                f"{name!r} would make the run loadable here: `hebm init --plugin {name} --kind vae` writes its "
                "package; put the modules into it and install it. In Python, you can pass the modules again: "
                "hebm.open_run(PATH, backbone=hebm.AutoEncoder(encode, decode, …))"
            )
        component = registry.find("hebm_backbones", name)
        try:
            made = component()
        except TypeError as error:
            raise ConfigError(
                f"backbone.component: {name!r} cannot be built without keys ({error}); give each key of its recipe a "
                "default"
            ) from error
        built = made.build(images)
        if not isinstance(built, AutoEncoderBackbone):
            raise ConfigError(
                f"backbone.component: {name!r} builds a {type(built).__name__}; it must return "
                "hebm.AutoEncoder(…).build(images)"
            )
        return built.parts, built.weights
