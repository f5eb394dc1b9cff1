"""The interfaces between the core and its plugins: read this file first.

    image x ──infer──▶ latents z ──T⁻¹──▶ u ────────learn────────▶ prior p(u)
                                                                      │ sample (MCMC or ancestral)
    image x ◀─decode── latents z ◀──T─── u ◀──────────draw────────────┘

**Sign convention, obeyed everywhere:** f is the *log tilt*: a large f is a likely latent; the energy is −f.
A learned prior tilts a base:  log p(u) = f(T(u)) + log N(u; 0, I) − log Z.

**Order:** latent layers are listed top first. **Range:** images are in [−1, 1].

What is registered under a name is a *recipe*: a frozen attrs class (`hebm.config.recipe`) whose fields are TOML keys
and whose `build` makes the live object. Randomness comes in as `Noise`; no component reads the global generator
except to initialise parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import attrs
import torch
from torch import Tensor, nn

from hebm.errors import ConfigError
from hebm.latents import Hold, LatentLayout, Latents, Posterior
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm.samplers import Info, Sampler, StepNoise

if TYPE_CHECKING:
    from hebm.data.images import Images
    from hebm.densities import LogDensity
    from hebm.sampling import Observer

__all__ = [
    "PLAIN",
    "Backbone",
    "BackboneRecipe",
    "Batch",
    "Draw",
    "EnergyFn",
    "EnergyRecipe",
    "ImageSpec",
    "Info",
    "Loss",
    "PriorLearner",
    "PriorRecipe",
    "Progress",
    "Request",
    "Sampler",
    "Stage",
    "StepNoise",
    "check_base",
    "require_context",
]

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
        """(C, H, W)."""
        return self.channels, self.height, self.width


@attrs.frozen(eq=False)
class Batch:
    """Images on their way into a model, all in [−1, 1].

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
    """How far training is.

    Arguments:
        step: the first being 0.
        total: steps in all.
        rows: samples of the whole step, over processes and micro-batches: a row's place among them is
            `noise.start` plus its index. None: those at hand are all.
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
        negative: draws of the negative phase, for a scheme that needs them again; or None.
        posterior: the posterior draw it was computed on, with its graph, for a scheme that adds to it; or None.
    """

    total: Tensor
    terms: Mapping[str, Tensor] = attrs.field(factory=dict)
    negative: Latents | None = None
    posterior: Posterior | None = None


@attrs.frozen(eq=False)
class Draw:
    """Samples from a prior.

    Arguments:
        u: `(B, D)`.
        context: what they belong to, `(B, *context)`, or None.
        figures: of how they were drawn, by name, one per sample `(B,)`: an effective sample size, say.
    """

    u: Tensor
    context: Tensor | None = None
    figures: Mapping[str, Tensor] = attrs.field(factory=dict)

    def rows(self, few: slice) -> Draw:
        """Some of the samples."""
        context = None if self.context is None else self.context[few]
        return Draw(self.u[few], context, {name: figure[few] for name, figure in self.figures.items()})


@attrs.frozen(eq=False)
class Request:
    """What is asked of draws from a prior.

    Arguments:
        labels: class per sample `(n,)`, or attributes `(n, A)`: 1, 0, or −1 for one that may be either. None, and any
            at all for a prior that is not `labelled`, draws from the marginal.
        context: c that is given, `(n, *context)`; None lets the root draw it.
        steps: length of each chain, instead of the sampler's own.
        observe: sees every step of every chain.
        hold: coordinates of u that are given; the others are drawn given them.
    """

    labels: Tensor | None = None
    context: Tensor | None = None
    steps: int | None = None
    observe: Observer | None = None
    hold: Hold | None = None

    def repeated(self, times: int) -> Request:
        """For so many rows per sample."""
        hold = None if self.hold is None else Hold(self.hold.u.repeat_interleave(times, 0), self.hold.held)
        labels, context = (
            None if given is None else given.repeat_interleave(times, 0) for given in (self.labels, self.context)
        )
        return Request(labels, context, self.steps, self.observe, hold)


PLAIN = Request()
"""Nothing asked: the prior's own marginal, its own chains."""

# ---------------------------------------------------------------- live objects


class Backbone(nn.Module, ABC):
    """A top-down generator p(x|z) p(z_L) Π p(z_i | z_above), and its inference model if it has one."""

    layout: LatentLayout

    @abstractmethod
    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """T: u `(B, D)` → z. Each row must depend on its own row alone."""

    @abstractmethod
    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        """T⁻¹: z per layer, top first → u. Differentiable in the backbone's parameters (z fixed)."""

    @abstractmethod
    def likelihood(self, latents: Latents) -> PixelDistribution:
        """p(x|z): a `torch.distributions.Distribution` of batch shape `(B,)` with `draw(noise)`."""

    @property
    def can_infer(self) -> bool:
        """Whether this backbone has an inference model q(z|x); without it, latents are inferred by MCMC."""
        return type(self).infer is not Backbone.infer

    def infer(self, batch: Batch, noise: Noise) -> Posterior:
        """A reparameterised draw from q(z|x), with log q and KL per layer."""
        raise NotImplementedError(f"{type(self).__name__} has no inference model")

    def objective(self, batch: Batch, noise: Noise, progress: Progress) -> Loss:
        """−ELBO = E_q[−log p(x|z)] + Σ_i KL(q_i ‖ p_i), in nats per image. Override to anneal or balance it.

        With a context it has + log r(c|x), too; −log p(c) is its root's, which learns beside the backbone.
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

    def generative(self) -> tuple[nn.Module, ...]:
        """The modules of p(x, z): all but the inference model's. Schemes that infer by MCMC train these alone."""
        return (self,)

    def fit_statistics(self, images: Images) -> None:
        """Called once before training, for buffers that depend on the data set."""

    def finalize(self, noise: Noise) -> None:
        """Measure statistics on the final weights. The default does nothing.

        Scheme two-phase calls it once, after the backbone's training or when the backbone comes from another run, and
        before a prior is trained on it. Averaged weights are finalized too. The result depends on `noise` alone and is
        the same on every process.
        """

    def folded(self) -> Backbone:
        """An equal, cheaper copy of a frozen backbone, for inference and chains (never trained)."""
        return self


class EnergyFn(nn.Module, ABC):
    """Scores latents: the log tilt f, large = likely."""

    @abstractmethod
    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Log tilts `(B, E, K)`: E = L layers, or 1 for a net over all of them; K = 1, or raw logits."""

    @torch.no_grad()
    def count(self, layout: LatentLayout) -> int:
        """E for latents of this layout."""
        parameter, training = next(self.parameters(), torch.zeros(())), self.training
        f: Tensor = self.eval()(layout.zeros(parameter), parameter.new_zeros(1, dtype=torch.int64))
        self.train(training)
        return f.shape[1]

    def of_layer(self, latents: Latents, layer: int, t: Tensor | None = None) -> Tensor:
        """Log tilts `(B, K)` of energy `layer` alone, 0 the first; override it where that spares the others."""
        f: Tensor = self(latents, t)[:, layer]
        return f

    def folded(self, t: Tensor | None = None) -> EnergyFn:
        """An equal, cheaper view for one chain: what depends on t and the weights alone is computed once."""
        return self


class Stage(NamedTuple):
    """One thing that a prior trains.

    Arguments:
        name: unique within the prior; it names the phase.
        module: whose parameters this stage trains.
        objective: called as `PriorLearner.objective` is.
        with_backbone: True if it is a term of the backbone's own objective, trained in the same phase.
        start: called as `start(backbone, noise)` when the stage's training starts or resumes, with the same noise both
            times, to set up what its steps share (a pool of samples). The result may depend only on the noise and on
            what is saved.
        tilt: the log tilt `(B, E)` under which latents are inferred by MCMC while this stage learns; None for the
            prior's own.
        recipe: what `module` was built from, with every key at its default that does not change what the weights mean
            (a dropout rate). `train.backbone_from` takes over a stage that learned with the backbone if both recipes
            are equal. None leaves only the names and shapes of the weights to compare.
    """

    name: str
    module: nn.Module
    objective: Callable[..., Loss]
    with_backbone: bool = False
    start: Callable[[Backbone, Noise], None] | None = None
    tilt: Callable[[Latents], Tensor] | None = None
    recipe: object | None = None


class PriorLearner(nn.Module, ABC):
    """A prior over u. It holds no reference to a backbone: methods are given one.

    `base` is the prior that it tilts, None for a root. Annotate it, never set it on the class: a class attribute
    would hide the registered sub-module.
    """

    base: PriorLearner | None

    @property
    def context(self) -> tuple[int, ...] | None:
        """Shape of the context that this prior draws: its base's, and for a root None unless it overrides this."""
        return None if self.base is None else self.base.context

    def check(self, images: ImageSpec) -> None:
        """Called before training: raise `ConfigError` if this prior's labels are not those of the images."""
        if self.base is not None:
            self.base.check(images)

    @property
    def labelled(self) -> bool:
        """Whether `sample` heeds its labels. Where it does not, a user who asks for labels is refused."""
        return False

    @abstractmethod
    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = PLAIN) -> Draw:
        """n draws of u.

        Arguments:
            backbone: gives T.
            n: how many.
            noise: its rows are the samples' global indices.
            request: what is asked of them. A tilt passes it on to its base, whose draw has the context.
        """

    def milestones(self) -> Mapping[str, PriorLearner]:
        """The priors that a draw passes through, by name, from the first step away from the base to this prior itself:
        after each stage, or each level of noise. Empty for a prior that gets there at once.

        They share this prior's modules and are for sampling and scoring, not for training.
        """
        return {}

    def milestone(self, name: str | None) -> PriorLearner:
        """One of `milestones` by name, or this prior itself. Raises `ConfigError` for a name that is not there."""
        found = self.milestones()
        if name is None:
            return self
        if name not in found:
            known = ", ".join(map(repr, found)) or "none: it is drawn at once"
            raise ConfigError(f"milestone: {name!r} is none of this prior's; it has {known}")
        return found[name]

    def factors(self) -> Mapping[str, PriorLearner]:
        """Priors whose tilts are those of one stage alone each, by the same names: for scores. Empty if it has one."""
        return {}

    def regenerate(self, backbone: Backbone, latents: Latents, held: Tensor, noise: Noise) -> Tensor:
        """u `(B, D)` of `latents` with the coordinates that are not `held` `(D,)` drawn anew, given the others and the
        context.

        A prior with levels of noise may pass through the lowest, and move what is held by as much.
        """
        request = Request(context=latents.context, hold=Hold(latents.u, held))
        return self.sample(backbone, len(latents.u), noise, request).u

    def objective(
        self,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """The loss of this prior on posterior draws (detached). Does not know which scheme made them."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to train")

    def tilt(self, latents: Latents) -> Tensor:
        """log p(z) − log p_β(z) up to a constant, per energy `(B, E)`, for scores and posterior chains."""
        raise NotImplementedError(f"{type(self).__name__} has no tilt")

    def density(
        self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None
    ) -> LogDensity | None:
        """The unnormalised log density over u, or None where there is no unnormalised marginal."""
        return None

    def context_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """One sample, `(B,)`, whose mean over noise is a lower bound on log p(c) of contexts `(B, *context)`.

        Never put it into an exponential: the noise would be rewarded. A root that draws a context has it.
        """
        return self._of_context().context_bound(context, noise)

    def context_weight(self, context: Tensor, noise: Noise) -> Tensor:
        """log w, `(B,)`, with E[w] = p(c): what importance weights take. A root that draws a context has it."""
        return self._of_context().context_weight(context, noise)

    def _of_context(self) -> PriorLearner:
        if self.base is None:
            raise NotImplementedError(f"{type(self).__name__} has no log p(c)")
        return self.base

    def stages(self) -> tuple[Stage, ...]:
        """What this prior trains, one after another, its base's stages first."""
        return () if self.base is None else self.base.stages()


# ---------------------------------------------------------------- recipes: what is registered


class BackboneRecipe(ABC):
    """Group `hebm_backbones`."""

    group: ClassVar[str] = "hebm_backbones"

    @abstractmethod
    def build(self, images: ImageSpec) -> Backbone:
        """A backbone for images of this shape. Raises `ConfigError` if they do not fit."""


class EnergyRecipe(ABC):
    """Group `hebm_energies`."""

    group: ClassVar[str] = "hebm_energies"

    @abstractmethod
    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> EnergyFn:
        """An energy over this layout with K = `logits` outputs, for t in {0, …, levels − 1}."""


class PriorRecipe(ABC):
    """Group `hebm_priors`."""

    group: ClassVar[str] = "hebm_priors"

    @abstractmethod
    def build(self, backbone: Backbone) -> PriorLearner:
        """A prior for this backbone's layout."""


def check_base(base: PriorLearner, layout: LatentLayout, key: str = "prior.base") -> None:
    """Raise `ConfigError` unless `base` is a root that draws the context that `layout` asks for.

    A density f(T(u)) − |u|²/2 would leave the tilt of a base that is no root out.
    """
    if base.base is not None:
        raise ConfigError(f"{key}: {type(base).__name__} tilts a base itself; use a root, such as gaussian")
    require_context(base, layout, key)


def require_context(prior: PriorLearner, layout: LatentLayout, key: str) -> None:
    """Raise `ConfigError` unless the root of `prior` draws the context that `layout` asks for."""
    if prior.context == layout.context:
        return
    fix = (
        'use a root without context, such as base = "gaussian"'
        if layout.context is None
        else f"use a root that draws a context of shape {layout.context}"
    )
    raise ConfigError(f"{key}: the prior draws context {prior.context}, the backbone expects {layout.context}; {fix}")
