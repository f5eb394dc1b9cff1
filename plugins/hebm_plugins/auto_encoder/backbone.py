"""A user's own VAE with one layer of latents as a backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from hebm.data.images import Images
from hebm.errors import ConfigError
from hebm.interfaces import InferringHierarchy, Layer, PullBack
from hebm.latents import LatentLayout, Latents
from hebm.likelihoods import PixelDistribution
from hebm.messages import note
from hebm.normals import Normal
from hebm_plugins.auto_encoder.checks import ROWS, checked
from hebm_plugins.auto_encoder.moments import NONE, latent_moments, shape_of
from hebm_plugins.auto_encoder.pixels import Pixels
from hebm_plugins.auto_encoder.report import report
from hebm_plugins.auto_encoder.vae import VAE, evaluating, load_weights


class AutoEncoderBackbone(InferringHierarchy[None, Normal]):
    """p(x, z) = p(x|z) N(z; m, diag s²) with T(u) = m + s u, and q(z|x) = N(μ(x), diag σ(x)²), for a trained VAE.

    The VAE's modules are sub-modules: `to` moves them, and checkpoints hold their weights. They compute in eval mode;
    outside of a computation, each has its own mode. m = 0 and s = 1 unless `standardise` fits them.

    Arguments:
        layout: one layer of latents.
        parts: encoder and decoder.
        pixels: makes p(x|z).
        standardise: "none", "scalar" or "channel".
        images: number of training images that m and s are fitted to.
        expected: the fingerprint that the weights must have when training starts; None for any.
    """

    final_weights = True

    def __init__(
        self,
        layout: LatentLayout,
        parts: VAE,
        pixels: Pixels,
        standardise: str = NONE,
        images: int = 10000,
        expected: str | None = None,
    ) -> None:
        super().__init__()
        self.layout, self.parts, self.pixels = layout, parts, pixels
        self.standardise, self.images, self.expected = standardise, images, expected
        self.weights: str | None = None
        self.vae = parts.module
        like = next((p for p in self.vae.parameters()), torch.zeros(()))
        shape = shape_of(standardise, layout.shapes[0])
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(shape, device=like.device))
        self.register_buffer("scale", torch.ones(shape, device=like.device))

    def with_weights(self, path: str | None) -> Self:
        """Read the VAE's weights from a file when training starts, and return the backbone.

        A run needs the file only then, since its checkpoints hold the weights.

        Arguments:
            path: a `.safetensors` file, or the state_dict that `torch.save` wrote; None keeps the present weights.
        """
        self.weights = path
        return self

    @override
    def train(self, mode: bool = True) -> Self:
        self.training = mode  # of this module alone: the VAE's modules keep the mode that their owner gave them
        return self

    def extra_repr(self) -> str:
        """Show shape, likelihood and standardisation."""
        return f"latents {self.layout.shapes[0]}, {self.pixels.likelihood}, standardise={self.standardise}"

    # ------------------------------------------------------------ T and T⁻¹

    @property
    def prior(self) -> Normal:
        """N(m, diag s²), the distribution of z under the root; m and s broadcast to z."""
        return Normal(self.shift, self.scale)

    @override
    def start(self, like: Tensor, context: Tensor | None) -> None:
        return None

    @override
    def layer(self, index: int, state: None, above: Tensor | None, evidence: Normal | None) -> Layer[None]:
        return Layer(self.prior, None, evidence)

    def latents_and_pullback(self, u: Tensor, context: Tensor | None = None) -> tuple[Latents, PullBack]:
        """Return T(u), and its vector-Jacobian product, see `hebm.interfaces.PullsBack`."""
        return self.latents(u, context), lambda grads: self.layout.join([self.scale * grads[0]])

    # ------------------------------------------------------------ the VAE

    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Return p(x|z). Raises `ConfigError` if `decode` returns another kind of value, or another shape."""
        return self.pixels.distribution(self.decoded(latents.z[0]), len(latents))

    def decoded(self, z: Tensor) -> Any:
        """Return what `decode` returns for z `(B, *latent_shape)`."""
        with evaluating(self.vae):
            return self.parts.decode(z)

    def posterior(self, x: Tensor) -> Normal:
        """Return q(z|x) of images `(B, C, H, W)` in [−1, 1].

        Raises `ConfigError` if `encode` returns anything but two tensors `(B, *latent_shape)`.
        """
        with evaluating(self.vae):
            encoded = self.parts.encode(self.pixels.span.of(x))
        mean, log_variance = _pair(encoded, (len(x), *self.layout.shapes[0]))
        return Normal(mean, (0.5 * log_variance).exp())

    @override
    def encode(self, x: Tensor) -> Normal:
        return self.posterior(x)

    def generative(self) -> tuple[nn.Module, ...]:
        """List no modules: all weights are final."""
        return ()

    def decoder_features(self, latents: Latents) -> tuple[Tensor, ...]:
        """Return ones: the prior of the single layer has no input."""
        return (torch.ones_like(latents.u[:, :1]),)

    def last_feature(self, latents: Latents) -> Tensor:
        """Return z, the input of the decoder."""
        return latents.z[0]

    # ------------------------------------------------------------ before training

    def fit_statistics(self, images: Images) -> None:
        """Read the weights' file, check the VAE on training images, and fit m and s.

        The numbers are printed as a note. Raises `ConfigError` if a check fails, and `CheckpointError` for a file that
        does not fit.
        """
        if self.weights is not None:
            load_weights(self.parts, self.weights)
        if self.expected not in (None, self.parts.fingerprint):
            raise ConfigError(
                f"backbone: the VAE's weights are not those of this run: their fingerprint is "
                f"{self.parts.fingerprint[:12]}…, the run's is {str(self.expected)[:12]}…; set the trained weights"
            )
        quality = checked(self, next(self._read(images, min(ROWS, len(images)))))
        count = min(len(images), ROWS if self.standardise == NONE else self.images)
        found = latent_moments(self._posteriors(images, count), self.standardise)
        if self.standardise != NONE:
            self.shift.copy_(found.mean)
            self.scale.copy_(found.std)
        for line in report(found, self.standardise, count, quality):
            note(line)

    def _read(self, images: Images, count: int) -> Iterator[Tensor]:
        """Yield evenly spaced images in batches, on the device and with the type of this module."""
        at = torch.linspace(0, len(images) - 1, count, dtype=torch.float64).long()
        for some in torch.split(at, ROWS):
            yield images.read(some).to(self.shift)

    @torch.no_grad()
    def _posteriors(self, images: Images, count: int) -> Iterator[Normal]:
        for x in self._read(images, count):
            yield self.posterior(x)


def _pair(encoded: Any, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and log-variance. Raises `ConfigError` for another result of `encode`."""
    pair = isinstance(encoded, (tuple, list)) and len(encoded) == 2
    if not pair or not all(isinstance(part, Tensor) for part in encoded):
        fix = "for a tensor that holds both, return tensor.chunk(2, dim=1)"
        raise ConfigError(
            f"AutoEncoder: encode returns a {_described(encoded)}, but two tensors are expected, mean and log-variance "
            f"of q(z|x); {fix}"
        )
    for name, part in zip(("mean", "log-variance"), encoded, strict=True):
        if tuple(part.shape) != shape:
            raise ConfigError(
                f"AutoEncoder: encode returns a {name} of shape {tuple(part.shape)}, but it must be {shape} with "
                f"latent_shape = {shape[1:]}; set latent_shape = {tuple(part.shape[1:])}, or change encode"
            )
    mean, log_variance = encoded
    return mean, log_variance


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)} values"
    return type(value).__name__
