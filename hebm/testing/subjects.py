"""Small objects for checks: a reference backbone, known densities, batches of images, and noise with NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import torch
from torch import Tensor, nn
from typing_extensions import override

from hebm.data.images import ArrayImages
from hebm.densities import Factor, LogDensity, ValueAndGrad
from hebm.interfaces import Batch, ImageSpec, InferringBackbone
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import GaussianPixels
from hebm.noise import Noise
from hebm.normals import Normal

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)

SMALL_IMAGES = ImageSpec(1, 8, 8)
LABELLED_IMAGES = ImageSpec(1, 8, 8, classes=("a", "b"))
SMALL_LAYOUT = LatentLayout(((3,), (4,)), image=SMALL_IMAGES.shape, features=((1,), (4,)), last_feature=(8, 1, 1))


def seeded(build: Callable[[], T], seed: int = 0) -> T:
    """Call a constructor with torch's generator seeded, and restore the generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def perturbed(module: M, size: float = 0.02) -> M:
    """Add small random numbers to all parameters in place, because parameters that are 0 hide gradients."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            flat = Noise(0, "perturbed", name, dtype=parameter.dtype).normal(parameter.numel())
            parameter.add_(size * flat.view_as(parameter))
    return module


def points(rows: int, dim: int, dtype: torch.dtype = torch.float32, name: str = "points") -> Tensor:
    """Return standard normal u `(rows, dim)`, the same at each call with the same name."""
    return Noise(0, name, dtype=dtype).normal(rows, dim)


def contexts(layout: LatentLayout, rows: int, dtype: torch.dtype = torch.float32) -> Tensor | None:
    """Return standard normal contexts `(rows, *context)`; None for a layout without a context."""
    return None if layout.context is None else Noise(0, "context", dtype=dtype).normal(rows, *layout.context)


def image_batch(images: ImageSpec, rows: int, dtype: torch.dtype = torch.float32) -> Batch:
    """Return random images in [−1, 1], with alternating classes or random attributes; targets are ±1 if binary."""
    x = 2 * Noise(0, "images", dtype=dtype).uniform(rows, *images.shape) - 1
    target = x.sign() if images.binary else x
    return Batch(x, target, _labels(images, rows), torch.arange(rows))


def _labels(images: ImageSpec, rows: int) -> Tensor | None:
    if images.attributes:
        return (Noise(0, "attributes").uniform(rows, len(images.attributes)) < 0.5).long()
    return torch.arange(rows) % len(images.classes) if images.classes else None


def image_set(images: ImageSpec, rows: int = 16) -> ArrayImages:
    """Return the same images as a data set, for `FitsStatistics.fit_statistics`."""
    batch = image_batch(images, rows)
    return ArrayImages(batch.target, batch.labels, images.classes, images.attributes)


class ReferenceBackbone(InferringBackbone):
    """z_i = μ_i(c, z_above) + σ_i(c, z_above) u_i, linear in all layers above; x ~ N(tanh g(z), 0.3²); q Gaussian in u.

    Energies and priors are checked on this backbone. It has any layout and context, and a few hundred parameters.

    Arguments:
        layout: layout of the latents.
        images: description of the images, with the shape of x.
    """

    def __init__(self, layout: LatentLayout = SMALL_LAYOUT, images: ImageSpec = SMALL_IMAGES) -> None:
        super().__init__()
        start = 1 + math.prod(layout.context or (0,))
        above = [start + sum(layout.sizes[:i]) for i in range(len(layout) + 1)]
        *features, last = ((width,) for width in above)
        self.layout = attrs.evolve(layout, image=images.shape, features=tuple(features), last_feature=(*last, 1, 1))
        self.images = images
        self.layers = nn.ModuleList(
            nn.Linear(width, 2 * size, bias=False) for width, size in zip(above[:-1], layout.sizes, strict=True)
        )
        pixels = math.prod(images.shape)
        self.generator = nn.Linear(layout.dim, pixels)
        self.inference = nn.Linear(pixels, 2 * layout.dim)

    def _start(self, u: Tensor, context: Tensor | None) -> Tensor:
        ones = torch.ones_like(u[:, :1])
        return ones if context is None else torch.cat([ones, context.flatten(1)], dim=1)

    def _conditional(self, layer: int, above: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        mean, log_std = self.layers[layer](above).chunk(2, dim=1)
        return mean.unflatten(1, shape), (0.5 * log_std.tanh()).exp().unflatten(1, shape)

    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """Compute T(u) layer by layer."""
        above, z, sigma = self._start(u, context), [], []
        for i, (part, shape) in enumerate(zip(self.layout.split(u), self.layout.shapes, strict=True)):
            mean, std = self._conditional(i, above, shape)
            z.append(mean + std * part)
            sigma.append(std)
            above = torch.cat([above, z[-1].flatten(1)], dim=1)
        return Latents(u, tuple(z), tuple(sigma), context)

    @override
    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        above, u, sigma = self._start(z[0].flatten(1), context), [], []
        for i, (part, shape) in enumerate(zip(z, self.layout.shapes, strict=True)):
            mean, std = self._conditional(i, above, shape)
            u.append((part - mean) / std)
            sigma.append(std)
            above = torch.cat([above, part.flatten(1)], dim=1)
        return Latents(self.layout.join(u), tuple(z), tuple(sigma), context)

    def likelihood(self, latents: Latents) -> GaussianPixels:
        """Return p(x|z) = N(tanh g(z), 0.3² I)."""
        return GaussianPixels(self.generator(latents.flat_z).tanh().unflatten(1, self.images.shape), 0.3)

    def decoder_features(self, latents: Latents) -> tuple[Tensor, ...]:
        """Return the input of each conditional: 1, the context and z above, flattened."""
        return tuple(self._features(latents)[:-1])

    def last_feature(self, latents: Latents) -> Tensor:
        """Return 1, the context and all z as channels of a map of one pixel."""
        return self._features(latents)[-1][..., None, None]

    def _features(self, latents: Latents) -> list[Tensor]:
        features = [self._start(latents.u, latents.context)]
        for part in latents.z:
            features.append(torch.cat([features[-1], part.flatten(1)], dim=1))
        return features

    def generative(self) -> tuple[nn.Module, ...]:
        """Return the conditionals and the generator g."""
        return self.layers, self.generator

    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Draw from q(u|x) = N(m(x), s(x)²), which T maps to z; KL is analytic in u."""
        mean, log_std = self.inference(batch.x.flatten(1)).chunk(2, dim=1)
        xi = noise.normal(*mean.shape)
        latents = self.latents(mean + log_std.exp() * xi, contexts(self.layout, len(xi), xi.dtype))
        density = -0.5 * xi.square() - log_std - 0.5 * math.log(2 * math.pi)
        jacobian = [s.expand_as(z).flatten(1).log() for s, z in zip(latents.sigma, latents.z, strict=True)]
        kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
        log_q, parts = density - torch.cat(jacobian, dim=1), (mean, log_std.exp())
        q_u = tuple(map(Normal, *(self.layout.split(part) for part in parts)))
        return Posterior(latents, self._per_layer(log_q), self._per_layer(kl), q_u=q_u)

    def _per_layer(self, flat: Tensor) -> Tensor:
        return torch.stack([part.flatten(1).sum(1) for part in self.layout.split(flat)], dim=1)


class GaussianTarget(LogDensity):
    """log p(u) = −½ (u − m)ᵀ S⁻¹ (u − m).

    Arguments:
        mean: m, `(D,)`.
        cov: S, `(D, D)`.
        scale: multiplies the sampler's h.
    """

    def __init__(self, mean: Tensor, cov: Tensor, scale: float | Tensor = 1.0) -> None:
        self.mean, self.precision, self.scale = mean, torch.linalg.inv(cov), scale

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return the whole density and its gradient."""
        grad = (self.mean - u) @ self.precision
        return ValueAndGrad(0.5 * (grad * (u - self.mean)).sum(1), grad)

    def remainder(self, u: Tensor) -> Tensor:
        """Return 0, because the Gaussian term is the whole density."""
        return (0 * u).sum(1)


class LinearTarget(LogDensity):
    """log p(u) = gᵀu, with gradient g at every u.

    Arguments:
        slope: g, `(D,)`.
        scale: multiplies the sampler's h.
    """

    def __init__(self, slope: Tensor, scale: float | Tensor = 1.0) -> None:
        self.slope, self.scale = slope, scale

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return the whole density and its gradient."""
        return ValueAndGrad(u @ self.slope, self.slope.expand_as(u))

    def remainder(self, u: Tensor) -> Tensor:
        """Return 0, because the Gaussian term is the whole density."""
        return (0 * u).sum(1)


class KnownFactor(LogDensity):
    """log p(u) = r(v) + log N(u; m, s² I), with v = (u − m)/s.

    Arguments:
        of: r, `(B, D)` → `(B,)`.
        factor: m and s; by default 0 and 1.
        scale: multiplies h of samplers that do not need the factor.
    """

    def __init__(
        self, of: Callable[[Tensor], Tensor], factor: Factor | None = None, scale: float | Tensor = 1.0
    ) -> None:
        self.of, self.known, self.scale = of, factor or Factor(), scale

    def factor(self) -> Factor:
        """Return the Gaussian factor with m and s."""
        return self.known

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return −|v|²/2 and its gradient −v/s."""
        v = self._standardised(u)
        return ValueAndGrad(-0.5 * v.square().sum(1), -v / self.known.std)

    def remainder(self, u: Tensor) -> Tensor:
        """Return r(v), with the standardised v."""
        return self.of(self._standardised(u))

    def _standardised(self, u: Tensor) -> Tensor:
        v: Tensor = (u - self.known.mean) / self.known.std
        return v


class PoisonedNoise(Noise):
    """Noise whose normal numbers are NaN in the sample with global index `row`."""

    row = 1

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Draw standard normal numbers, with NaN in the sample `row`."""
        out = super().normal(rows, *shape)
        first = (self.row - self.start) * self.group
        if 0 <= first < rows:
            out[first : first + self.group] = math.nan
        return out
