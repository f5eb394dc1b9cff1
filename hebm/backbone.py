"""The interface of a backbone, and what it is built for, given and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

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
    """What a backbone must know of the images.

    Arguments:
        channels, height, width: shape of one image.
        classes: names of the labels, empty when there are none.
        binary: True when targets are binarised (every pixel −1 or 1).
        attributes: names of the A binary attributes that images have instead of classes, empty when there are none.
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
    """Images on their path into a model, all in [−1, 1].

    Arguments:
        x: what the encoder sees, `(B, C, H, W)`.
        target: what the likelihood scores (binarised, say), `(B, C, H, W)`.
        labels: class indices `(B,)`, or attributes `(B, A)` in {0, 1}; int64, or None.
        index: position of each image in its data set, `(B,)`.
    """

    x: Tensor
    target: Tensor
    labels: Tensor | None
    index: Tensor


@attrs.frozen
class Progress:
    """Where training is: at step `step` of `total`.

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
    """What a training step minimises.

    Arguments:
        total: scalar, differentiable; a mean over the batch.
        terms: scalars to log by name (detached), in nats per image unless the name says otherwise.
        negative: draws of the prior that the loss was computed on, for a scheme that trains the generator on them too;
            None if there are none, as in a contrast with the root.
        posterior: the posterior draw it was computed on, with its graph, for a scheme that adds to it; or None.
    """

    total: Tensor
    terms: Mapping[str, Tensor] = attrs.field(factory=dict)
    negative: Latents | None = None
    posterior: Posterior | None = None

    @property
    def kl_of_layers(self) -> dict[str, Tensor]:
        """Return the mean KL of each layer in nats per image, named "kl_layer_0", …, top first; {} where it is unknown.

        The names are those that it is logged under. A single layer has none: its KL is the sum.
        """
        if self.posterior is None or self.posterior.kl is None or self.posterior.kl.shape[1] == 1:
            return {}
        return {f"kl_layer_{i}": kl for i, kl in enumerate(self.posterior.kl.detach().mean(0))}

    def plus(self, name: str, term: Tensor | None, weight: float = 1.0) -> Loss:
        """Return the loss with `weight` times a scalar term added, and the term logged by name; None adds nothing."""
        if term is None:
            return self
        return attrs.evolve(self, total=self.total + weight * term, terms={**self.terms, name: term.detach()})


# ---------------------------------------------------------------- backbones


class Backbone(nn.Module, ABC):
    """A top-down generator p(x|z) p(z_L) Π p(z_i | z_above).

    With an inference model it is an `InferringBackbone`. Rarer abilities are `FitsStatistics`, `Finalizes` and
    `ShowsFeatures`.
    """

    layout: LatentLayout

    @abstractmethod
    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """Return T(u): u `(B, D)` → z. Each row must depend on its own row alone."""

    @abstractmethod
    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        """Return T⁻¹(z): z per layer, top first → u. Differentiable in the backbone's parameters (z fixed)."""

    @abstractmethod
    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Return p(x|z): a `torch.distributions.Distribution` of batch shape `(B,)` with `draw(noise)`."""

    def generative(self) -> tuple[nn.Module, ...]:
        """List the modules of p(x, z), without the inference model. Schemes that infer by MCMC train only these."""
        return (self,)

    def folded(self) -> Backbone:
        """Return an equal, cheaper copy of a frozen backbone, for inference and chains (never trained)."""
        return self


class InferringBackbone(Backbone):
    """A backbone with an inference model q(z|x), and the objective that trains both.

    Without one, latents are inferred by MCMC.
    """

    @abstractmethod
    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """Draw from q(z|x), reparameterised, with log q and KL per layer."""

    def objective(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """Return −ELBO = E_q[−log p(x|z)] + Σ_i KL(q_i ‖ p_i), in nats per image. Override it to anneal or balance.

        With a context, + log r(c|x) is added; −log p(c) is the loss of the root, which is trained with the backbone.
        """
        posterior = self.infer(batch, noise)
        if posterior.kl is None:
            raise NotImplementedError(f"{type(self).__name__}.infer gives no KL: override objective")
        reconstruction = -self.likelihood(posterior.latents).log_prob(batch.target).mean()
        kl = posterior.kl.sum(1).mean()
        loss = reconstruction + kl
        terms = {"reconstruction": reconstruction.detach(), "kl": kl.detach()}
        if posterior.log_r is None:
            return Loss(loss, {"elbo": -loss.detach(), **terms}, posterior=posterior)
        log_r = posterior.log_r.mean()
        return Loss(loss + log_r, {**terms, "log_r": log_r.detach()}, posterior=posterior)

    def folded(self) -> InferringBackbone:
        """Return an equal, cheaper copy of a frozen backbone, which infers alike."""
        return self


# ---------------------------------------------------------------- rare abilities, asked for by isinstance


@runtime_checkable
class FitsStatistics(Protocol):
    """A backbone with buffers that depend on the data set."""

    def fit_statistics(self, images: Images) -> None:
        """Set these buffers from the training images. Schemes call it once, before the first step."""


@runtime_checkable
class Finalizes(Protocol):
    """A backbone with statistics of its final weights."""

    def finalize(self, noise: Noise) -> None:
        """Measure statistics on the final weights.

        Scheme two-phase calls it once, after the backbone's training or when the backbone comes from another run, and
        before a prior is trained on it. Averaged weights are finalized too. The result depends on `noise` alone and is
        the same on every process.
        """


@runtime_checkable
class ShowsFeatures(Protocol):
    """A backbone whose decoder features energies may see.

    Its layout has their shapes, `LatentLayout.features` and `LatentLayout.last_feature`.
    """

    def decoder_features(self, latents: Latents) -> tuple[Tensor, ...]:
        """Return the feature that p(z_i | z_above) is computed from, for each of the L layers, top first."""

    def last_feature(self, latents: Latents) -> Tensor:
        """Return the feature that the image is computed from."""


class BackboneRecipe(ABC):
    """Builds a backbone; registered in the group `hebm_backbones`."""

    group: ClassVar[str] = "hebm_backbones"

    @abstractmethod
    def build(self, images: ImageSpec) -> Backbone:
        """Build a backbone for images of this shape. Raises `ConfigError` if they do not fit."""
