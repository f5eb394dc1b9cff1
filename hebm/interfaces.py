"""The interfaces between the core and its plugins: read this file first.

    image x ──infer──▶ latents z ──T⁻¹──▶ u ────────learn────────▶ prior p(u)
                                                                      │ sample (MCMC or ancestral)
    image x ◀─decode── latents z ◀──T─── u ◀──────────draw────────────┘

**Sign convention:** f is the *log tilt*: a large f is a likely latent; the energy is −f. A learned prior tilts a
root:  log p(u) = f(T(u)) + log N(u; 0, I) − log Z.  A root draws u ~ N(0, I), and a context where the backbone has one.

**Order:** latent layers are listed top first. **Range:** images are in [−1, 1].

What is registered under a name is a *recipe*: a frozen attrs class (`hebm.config.recipe`) whose fields are TOML keys
and whose `build` makes the live object. Randomness comes in as `Noise`; components read the global generator only to
initialise parameters.

All that the author of a prior needs can be imported from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

import attrs
import torch
from torch import Tensor, nn

from hebm.densities import LogDensity, TiltedPrior
from hebm.draws import Draw, Observer, Request
from hebm.errors import ConfigError, PluginError
from hebm.latents import Fixed, LatentLayout, Latents, Posterior
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm.samplers import Info, Sampler, StepNoise
from hebm.tilts import Tilt, seen_by, sees_of, shown, total
from hebm.transitions import MCMC, ROOT, Exact, Population, Transition, best_of, root_of, up_to, walk

if TYPE_CHECKING:
    from hebm.data.images import Images

__all__ = [
    "MCMC",
    "ROOT",
    "Backbone",
    "BackboneRecipe",
    "Batch",
    "Draw",
    "DrawsContext",
    "EnergyFn",
    "EnergyRecipe",
    "Exact",
    "Finalizes",
    "FitsStatistics",
    "Fixed",
    "ImageSpec",
    "InferringBackbone",
    "Info",
    "LatentLayout",
    "Latents",
    "LogDensity",
    "Loss",
    "Noise",
    "Observer",
    "Population",
    "Posterior",
    "PriorLearner",
    "PriorRecipe",
    "Progress",
    "Regenerates",
    "Request",
    "Sampler",
    "Stage",
    "StepNoise",
    "TakesLabels",
    "Tilt",
    "TiltedPrior",
    "Tilts",
    "Transition",
    "best_of",
    "build_root",
    "check_context",
    "context_of",
    "root_of",
    "seen_by",
    "sees_of",
    "shown",
    "tilt_after",
    "tilt_of",
    "walk",
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
        negative: draws of the negative phase, for a scheme that needs them again; or None.
        posterior: the posterior draw it was computed on, with its graph, for a scheme that adds to it; or None.
    """

    total: Tensor
    terms: Mapping[str, Tensor] = attrs.field(factory=dict)
    negative: Latents | None = None
    posterior: Posterior | None = None


# ---------------------------------------------------------------- live objects


class Backbone(nn.Module, ABC):
    """A top-down generator p(x|z) p(z_L) Π p(z_i | z_above).

    With an inference model it is an `InferringBackbone`. Rarer abilities are `FitsStatistics` and `Finalizes`.
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


class EnergyFn(nn.Module, ABC):
    """Scores latents: the log tilt f, large = likely.

    `sees` names what it needs of latents besides u, z, σ and the context: "image" for `latents.image` = E[x|z]. It is
    computed once per evaluation of a density, and only if an energy sees it.
    """

    sees: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, E, K)`: E = L layers, or 1 for a net over all of them; K = 1, or raw logits."""

    @torch.no_grad()
    def count(self, layout: LatentLayout) -> int:
        """Return E for latents of this layout."""
        parameter, training = next(self.parameters(), torch.zeros(())), self.training
        f: Tensor = self.eval()(layout.zeros(parameter), parameter.new_zeros(1, dtype=torch.int64))
        self.train(training)
        return f.shape[1]

    def of_layer(self, latents: Latents, layer: int, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, K)` of energy `layer` alone, 0 the first. Override it if that spares the others."""
        f: Tensor = self(latents, t)[:, layer]
        return f

    def folded(self, t: Tensor | None = None) -> EnergyFn:
        """Return an equal, cheaper view for one chain: what depends only on t and the weights is computed once."""
        return self


class Stage(NamedTuple):
    """One thing that a prior trains.

    Arguments:
        name: unique within the prior; it names the phase, and the transition that draws from the trained stage.
        module: whose parameters this stage trains.
        objective: called as `PriorLearner.objective` is.
        with_backbone: True if it is a term of the backbone's own objective, trained in the same phase.
        start: called as `start(backbone, noise)` when the stage's training starts or resumes, with the same noise both
            times, to set up what its steps share (a pool of samples). The result may depend only on the noise and on
            what is saved.
        tilt: the log tilt under which latents are inferred by MCMC while this stage learns; None for the prior's own.
        recipe: the recipe that `module` was built from, with keys that do not change the meaning of its weights (a
            dropout rate) at their defaults. `train.backbone_from` reuses the weights of another run only if both
            recipes are equal. None compares the names and shapes of the weights alone.
    """

    name: str
    module: nn.Module
    objective: Callable[..., Loss]
    with_backbone: bool = False
    start: Callable[[Backbone, Noise], None] | None = None
    tilt: Tilt | None = None
    recipe: object | None = None

    @property
    def key(self) -> str:
        """The name as part of a noise's key."""
        return self.name.replace(" ", "-")


class PriorLearner(nn.Module, ABC):
    """A prior over u. It holds no reference to a backbone: methods are given one.

    A root overrides `sample`. A tilt of a root has a method `tilt` (`Tilts`), lists its `transitions`, and inherits
    `sample`, `density` and `stages`. Rarer abilities are the protocols below.

    `root` is the prior that it tilts, None for a root. Annotate it, never set it on the class: a class attribute
    would hide the registered sub-module. `population` says how many particles each sample has.
    """

    root: PriorLearner | None
    population: Population = Population()

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List the moves from the root's draw to this prior. Nothing is computed before `hebm.transitions.walk`."""
        return ()

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = Request()) -> Draw:
        """Draw n samples of u: walk the transitions from a draw of the root.

        Arguments:
            backbone: gives T.
            n: how many.
            noise: its rows are the samples' global indices.
            request: what the draws should be like.

        Raises `ConfigError` if the request stops after a transition that does not exist.
        """
        if self.root is None:
            raise NotImplementedError(f"{type(self).__name__} is a root: it must override sample")
        for _, draw in walk(self, backbone, n, noise, request):
            end = draw
        return end

    def objective(
        self,
        backbone: Backbone,
        posterior: Posterior,
        noise: Noise,
        progress: Progress,
        labels: Tensor | None = None,
    ) -> Loss:
        """Return the loss of this prior on posterior draws (detached). It does not know which scheme made them."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to train")

    def density(
        self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None
    ) -> LogDensity | None:
        """Return the unnormalised log density over u, f(T(u)) − |u|²/2 for a prior with a tilt.

        A prior whose draws have no such density (a chain of conditionals) overrides it with None.
        """
        tilt = tilt_of(self)
        return None if tilt is None else TiltedPrior(backbone, tilt, context)

    def stages(self) -> tuple[Stage, ...]:
        """List what is trained, one after another: the root's stages, then all of this prior's own sub-modules.

        Raises `PluginError` for parameters outside of sub-modules, which would not be trained.
        """
        loose = [name for name, _ in self.named_parameters(recurse=False)]
        if loose:
            raise PluginError(
                f"{type(self).__name__}: parameters {', '.join(loose)} are set on the prior itself; put them into a "
                "sub-module, or override stages()"
            )
        before = () if self.root is None else self.root.stages()
        own = [module for name, module in self.named_children() if name != "root"]
        if not own:
            return before
        return (*before, Stage("prior", own[0] if len(own) == 1 else nn.ModuleList(own), self.objective))


# ---------------------------------------------------------------- rare abilities of a backbone, asked for by isinstance


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


# ---------------------------------------------------------------- rare abilities of a prior, asked for by isinstance


@runtime_checkable
class Tilts(Protocol):
    """A prior with a tilt: log p(u) − log N(u; 0, I) up to a constant."""

    def tilt(self, latents: Latents) -> Tensor:
        """Return f per energy, `(B, E)`, for scores, histograms and posterior chains."""


@runtime_checkable
class TakesLabels(Protocol):
    """A prior that may be trained with labels."""

    @property
    def labelled(self) -> bool:
        """Whether draws depend on the labels of a request."""

    def check(self, images: ImageSpec) -> None:
        """Raise `ConfigError`, before training, if the labels are not those of the images."""


@runtime_checkable
class DrawsContext(Protocol):
    """A root that draws a context c."""

    @property
    def context(self) -> tuple[int, ...] | None:
        """The shape of c."""

    def context_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """Return one sample, `(B,)`, whose mean over noise is a lower bound on log p(c) of contexts `(B, *context)`.

        Do not exponentiate it: the mean of exp(bound) is larger than p(c).
        """

    def context_weight(self, context: Tensor, noise: Noise) -> Tensor:
        """Return log w, `(B,)`, with E[w] = p(c), for importance weights."""


@runtime_checkable
class Regenerates(Protocol):
    """A prior with levels of noise, which redraws some coordinates while it moves the others by the lowest level."""

    def regenerate(self, backbone: Backbone, latents: Latents, fixed: Fixed, noise: Noise) -> Tensor:
        """Return u `(B, D)` of `latents` with the free coordinates redrawn given the fixed ones and the context."""


def tilt_of(prior: PriorLearner) -> Tilt | None:
    """Return the log tilt of a prior; None for a root."""
    return Tilt(prior.tilt, (prior,)) if isinstance(prior, Tilts) else None


def tilt_after(prior: PriorLearner, backbone: Backbone, after: str | None) -> Tilt | None:
    """Return the log tilt of a prior after one of its transitions; None at the root.

    Arguments:
        prior: any prior.
        backbone: gives the transitions.
        after: a transition's name, or None for the prior itself. Where transitions have ratios, the tilt is their sum
            up to this one. Where they have none (a chain of conditionals), it is the prior's own, that of its end.
    """
    ratios = [transition.ratio for transition in up_to(prior.transitions(backbone), after)]
    if after == ROOT:
        return None
    if after is None or not any(ratios):
        return tilt_of(prior)
    return total(tuple(ratio(None) for ratio in ratios if ratio is not None))


# ---------------------------------------------------------------- recipes: what is registered


class BackboneRecipe(ABC):
    """Group `hebm_backbones`."""

    group: ClassVar[str] = "hebm_backbones"

    @abstractmethod
    def build(self, images: ImageSpec) -> Backbone:
        """Build a backbone for images of this shape. Raises `ConfigError` if they do not fit."""


class EnergyRecipe(ABC):
    """Group `hebm_energies`."""

    group: ClassVar[str] = "hebm_energies"

    @abstractmethod
    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> EnergyFn:
        """Build an energy with K = `logits` outputs, for t in {0, …, levels − 1}.

        The layout says what there is to see: the latents' shapes, the context's, and the decoded image's.

        Raises `ConfigError` if the energy does not fit the layout.
        """


class PriorRecipe(ABC):
    """Group `hebm_priors`."""

    group: ClassVar[str] = "hebm_priors"

    @abstractmethod
    def build(self, backbone: Backbone) -> PriorLearner:
        """Build a prior for this backbone's layout. Raises `ConfigError` if it does not fit."""


def build_root(recipe: PriorRecipe, backbone: Backbone, key: str = "prior.root") -> PriorLearner:
    """Build the root that a prior tilts.

    Raises `ConfigError` unless it is a root, u ~ N(0, I), that draws the context which the backbone expects.
    """
    root = recipe.build(backbone)
    if root.root is not None:
        raise ConfigError(
            f"{key}: {type(root).__name__} tilts a root itself, and f(T(u)) − |u|²/2 would leave its tilt out; use a "
            'root, such as type = "gaussian"'
        )
    check_context(root, backbone.layout, key)
    return root


def context_of(prior: PriorLearner) -> tuple[int, ...] | None:
    """Return the shape of the context that the root of a prior draws, or None."""
    root = root_of(prior)
    return root.context if isinstance(root, DrawsContext) else None


def check_context(prior: PriorLearner, layout: LatentLayout, key: str) -> None:
    """Raise `ConfigError` unless the root of `prior` draws the context that `layout` asks for."""
    drawn = context_of(prior)
    if drawn == layout.context:
        return
    fix = (
        'use a root without a context, such as type = "gaussian"'
        if layout.context is None
        else f"use a root that draws a context of shape {layout.context}"
    )
    raise ConfigError(f"{key}: the prior draws context {drawn}, the backbone expects {layout.context}; {fix}")
