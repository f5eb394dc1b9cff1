"""The interface of backbones, and the values that they take and return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import attrs
from torch import Tensor, nn

from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise

if TYPE_CHECKING:
    from hebm.data.images import Images

# ---------------------------------------------------------------- values that travel between components


@attrs.frozen
class ImageSpec:
    """The properties of images that a backbone depends on.

    Arguments:
        channels, height, width: shape of one image.
        classes: names of the labels; empty if the images have no labels.
        binary: True if the targets are binarised (every pixel −1 or 1).
        attributes: names of the A binary attributes that images have instead of classes; empty if they have none.
    """

    channels: int
    height: int
    width: int
    classes: tuple[str, ...] = ()
    binary: bool = False
    attributes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image, (C, H, W)."""
        return self.channels, self.height, self.width


@attrs.frozen(eq=False)
class Batch:
    """A batch of images as models read it; pixels are in [−1, 1].

    Arguments:
        x: input of the encoder, `(B, C, H, W)`.
        target: the images that the likelihood scores, binarised for binary data, `(B, C, H, W)`.
        labels: class indices `(B,)`, or attributes `(B, A)` in {0, 1}; int64, or None.
        index: position of each image in its data set, `(B,)`.
    """

    x: Tensor
    target: Tensor
    labels: Tensor | None
    index: Tensor


@attrs.frozen
class Progress:
    """How far training is: step `step` of `total`.

    Arguments:
        step: counted from 0.
        total: the number of steps.
        rows: global batch size, summed over processes and micro-batches. Row i of this batch is global row
            `noise.start + i`. None means that this batch is the whole step.
    """

    step: int
    total: int
    rows: int | None = None


@attrs.frozen(eq=False)
class Loss:
    """The loss of a training step.

    Arguments:
        total: scalar, differentiable; a mean over the batch.
        terms: scalars to log by name (detached), in nats per image unless the name says otherwise.
        negative: the draws of the prior that the loss was computed on, for schemes that train the generator on them
            too; None if the loss uses none.
        posterior: the posterior draw that the loss was computed on, with its graph, for schemes that add terms; or
            None.
    """

    total: Tensor
    terms: Mapping[str, Tensor] = attrs.field(factory=dict)
    negative: Latents | None = None
    posterior: Posterior | None = None

    @property
    def kl_of_layers(self) -> dict[str, Tensor]:
        """Return the mean KL of each layer in nats per image, under the names that are logged; {} if unknown.

        The names are "kl_layer_0", …, top first. A model with a single layer gives {}, since its KL is the sum.
        """
        if self.posterior is None or self.posterior.kl is None or self.posterior.kl.shape[1] == 1:
            return {}
        return {f"kl_layer_{i}": kl for i, kl in enumerate(self.posterior.kl.detach().mean(0))}

    def plus(self, name: str, term: Tensor | None, weight: float = 1.0) -> Loss:
        """Return the loss plus `weight` times a scalar term, which is logged by name; None adds nothing."""
        if term is None:
            return self
        return attrs.evolve(self, total=self.total + weight * term, terms={**self.terms, name: term.detach()})


# ---------------------------------------------------------------- backbones


class Backbone(nn.Module, ABC):
    """A top-down generator p(x|z) p(z_L) Π p(z_i | z_above).

    A backbone with an inference model is an `InferringBackbone`. `FitsStatistics`, `Finalizes` and `ShowsFeatures` add
    optional abilities. `layout` has the shapes of its latents.
    """

    layout: LatentLayout

    @abstractmethod
    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """Return T(u): u `(B, D)` → z. Row i of the result must depend on row i of u alone."""

    @abstractmethod
    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        """Return T⁻¹(z): z per layer, top first → u. It must be differentiable in the backbone's parameters."""

    @abstractmethod
    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Return p(x|z): a `torch.distributions.Distribution` of batch shape `(B,)` with `draw(noise)`."""

    def generative(self) -> tuple[nn.Module, ...]:
        """List the modules of p(x, z), without the inference model. Schemes that infer by MCMC train only these."""
        return (self,)

    def folded(self) -> Backbone:
        """Return an equal, faster copy of a frozen backbone for inference and chains. The copy is never trained."""
        return self


class InferringBackbone(Backbone):
    """A backbone with an inference model q(z|x), and the objective that trains both of them.

    Latents of a backbone without an inference model are inferred by MCMC.
    """

    @abstractmethod
    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Return a reparameterised draw from q(z|x), with log q and KL of each layer."""

    def objective(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return −ELBO = E_q[−log p(x|z)] + Σ_i KL(q_i ‖ p_i), in nats per image. Override it to anneal or balance.

        With a context, log r(c|x) is added. The root, which is trained in the same phase, adds its loss −log p(c).
        """
        posterior = self.infer(batch, noise)
        if posterior.kl is None:
            raise NotImplementedError(f"{type(self).__name__}.infer returns no KL; override objective")
        reconstruction = -self.likelihood(posterior.latents).log_prob(batch.target).mean()
        kl = posterior.kl.sum(1).mean()
        loss = reconstruction + kl
        terms = {"reconstruction": reconstruction.detach(), "kl": kl.detach()}
        if posterior.log_r is None:
            return Loss(loss, {"elbo": -loss.detach(), **terms}, posterior=posterior)
        log_r = posterior.log_r.mean()
        return Loss(loss + log_r, {**terms, "log_r": log_r.detach()}, posterior=posterior)

    def folded(self) -> InferringBackbone:
        """Return an equal, faster copy of a frozen backbone, with equal inference."""
        return self


# ---------------------------------------------------------------- optional abilities, tested by isinstance


@runtime_checkable
class FitsStatistics(Protocol):
    """A backbone with buffers computed from the data set."""

    def fit_statistics(self, images: Images) -> None:
        """Set these buffers from the training images. Schemes call it once, before the first step."""


@runtime_checkable
class HasFinalWeights(Protocol):
    """A backbone whose weights are final once `fit_statistics` has run, if it has this method.

    The scheme `two-phase` trains the prior alone, and does not call `finalize`. Schemes that train the backbone raise
    an error.
    """

    final_weights: Literal[True]
    """The attribute alone marks such a backbone, so a backbone that is trained must not have it."""


@runtime_checkable
class Finalizes(Protocol):
    """A backbone with statistics that are computed from its final weights."""

    def finalize(self, noise: Noise) -> None:
        """Compute the statistics from the final weights.

        The scheme `two-phase` calls it once before a prior is trained: after the backbone's training, or after loading
        the backbone of another run. It also finalizes averaged weights. The result must depend on `noise` alone and be
        equal on every process.
        """


@runtime_checkable
class ShowsFeatures(Protocol):
    """A backbone that shows its decoder's features to energies.

    `LatentLayout.features` and `LatentLayout.last_feature` of its layout have their shapes.
    """

    def decoder_features(self, latents: Latents) -> tuple[Tensor, ...]:
        """Return the feature that p(z_i | z_above) is computed from, for each of the L layers, top first."""

    def last_feature(self, latents: Latents) -> Tensor:
        """Return the feature that the image is computed from."""


class BackboneRecipe(ABC):
    """Builds a backbone. Plugins register it in the group `hebm_backbones`."""

    group: ClassVar[str] = "hebm_backbones"

    @abstractmethod
    def build(self, images: ImageSpec) -> Backbone:
        """Build a backbone for images of this shape. Raises `ConfigError` if it does not support them."""
