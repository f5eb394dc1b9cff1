"""The interfaces between the core and its plugins: read this file first.

    image x ──infer──▶ latents z ──T⁻¹──▶ u ────────learn────────▶ prior p(u)
                                                                      │ sample (MCMC or ancestral)
    image x ◀─decode── latents z ◀──T─── u ◀──────────draw────────────┘

**Sign convention:** f is the *log tilt*: a large f is a likely latent; the energy is −f. A learned prior tilts a
root:  log p(u) = f(T(u)) + log N(u; 0, I) − log Z.  A root draws u ~ N(0, I), and a context where the backbone has one.

**Order:** latent layers are listed top first. **Range:** images are in [−1, 1].

What is registered under a name is a *recipe*: a frozen attrs class (`hebm.config.recipes`) whose fields are TOML keys
and whose `build` makes the live object. Randomness comes in as `Noise`; components read the global generator only to
initialise parameters.

All that the author of a prior needs can be imported from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from hebm.adaptation import has_target
from hebm.backbone import (
    Backbone,
    BackboneRecipe,
    Batch,
    Finalizes,
    FitsStatistics,
    ImageSpec,
    InferringBackbone,
    Loss,
    Progress,
    ShowsFeatures,
)
from hebm.contrasts import Contrasted
from hebm.densities import LogDensity, TiltedPrior
from hebm.draws import Draw, Observer, Request
from hebm.errors import ConfigError, PluginError
from hebm.fixed import Fixed
from hebm.latents import LatentLayout, Latents, Posterior, as_leaves
from hebm.noise import Noise
from hebm.perturbations import view
from hebm.samplers import Info, Sampler, StepNoise
from hebm.starts import starting
from hebm.store.row_cache import RowCache
from hebm.tilts import SHOWN, Tilt, expect_shown, seen_by, sees_of, shown, total
from hebm.transitions import MCMC, ROOT, Exact, Transition, best_of, up_to
from hebm.validated import HeldOutLoss
from hebm.walking import Population, root_of, walk

__all__ = [
    "MCMC",
    "ROOT",
    "Backbone",
    "BackboneRecipe",
    "Batch",
    "Contrasted",
    "Draw",
    "DrawsContext",
    "EnergyFn",
    "EnergyRecipe",
    "Exact",
    "Finalizes",
    "FitsStatistics",
    "Fixed",
    "HeldOutLoss",
    "ImageSpec",
    "InferringBackbone",
    "Info",
    "LatentLayout",
    "Latents",
    "LearnsByContrast",
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
    "RowCache",
    "Sampler",
    "ShowsFeatures",
    "Stage",
    "StepNoise",
    "TakesLabels",
    "Tilt",
    "TiltedPrior",
    "Tilts",
    "Transition",
    "best_of",
    "build_energy",
    "build_root",
    "build_start",
    "check_context",
    "context_of",
    "root_of",
    "seen_by",
    "sees_of",
    "shown",
    "starting",
    "tilt_after",
    "tilt_of",
    "walk",
]

# ---------------------------------------------------------------- live objects


class EnergyFn(nn.Module, ABC):
    """Scores latents: the log tilt f, large = likely.

    `sees` names what it needs: "latents" for u, z, σ and the context, "image" for `latents.image` = E[x|z], "features"
    for `latents.features` and "last-feature" for `latents.last_feature` of a backbone that shows its decoder's features
    (`ShowsFeatures`). What is decoded is computed once per evaluation of a density, and only if an energy sees it.

    The energy itself is deterministic, in train mode too. Put what perturbs it in training into its net as modules of
    `hebm.perturbations` (`Dropout`, `Shift`, `Rounding`); priors train with `perturbed` and `penalty`.

    Attributes:
        gradient_penalty: weight of `penalty`, 0 for none.
    """

    sees: tuple[str, ...] = ("latents",)
    gradient_penalty: float = 0.0

    @abstractmethod
    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, E, K)`: E = L layers, or 1 for a net over all of them; K = 1, or raw logits.

        Arguments:
            latents: B of them.
            t: the level of noise of each, `(B,)`, for priors that have levels; otherwise None.
        """

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

    def perturbed(self, noise: Noise) -> EnergyFn:
        """Return a view for one step of training whose dropout masks and shifts are drawn from `noise`.

        It has the same parameters. Each forward takes the next draws, so one view gives posterior draws and negatives
        different masks; row i takes those of the noise's row i, whatever the number of processes. An energy without
        modules of `hebm.perturbations` is its own view.
        """
        return view(self, noise)

    def penalty(self, latents: Latents, t: Tensor | None = None) -> Tensor | None:
        """Return the zero-centred gradient penalty R1 = (w/2) E Σ_k |∇_s Σ_e f_ek|² at posterior draws, in nats.

        w is `gradient_penalty`, and s is all that f reads: u, z and what it sees. The loss adds this term; None if
        w = 0. It costs a second derivative for each logit k (Mescheder et al. 2018, arXiv 1801.04406).
        """
        if not self.gradient_penalty:
            return None
        leaves, parts = as_leaves(latents)
        with torch.enable_grad():
            f = self(leaves, t).sum((0, 1))
            grads = [
                grad
                for each in f
                for grad in torch.autograd.grad(each, parts, create_graph=True, allow_unused=True)
                if grad is not None
            ]
        penalty = torch.stack([grad.square().sum() for grad in grads]).sum()
        return 0.5 * self.gradient_penalty * penalty / len(latents)


class Stage(NamedTuple):
    """One thing that a prior trains.

    Arguments:
        name: unique within the prior; it names the phase, and the transition that draws from the trained stage.
        module: whose parameters this stage trains.
        objective: called as `PriorLearner.objective` is.
        with_backbone: True if it is a term of the backbone's own objective, trained in the same phase.
        start: called as `start(backbone, noise, cache)` when the stage's training starts or resumes, with the same
            noise both times, to set up what its steps share (a pool of samples). The result may depend only on the
            noise and on what is saved. The cache keeps rows that take long to compute (`hebm.store.row_cache`).
        tilt: the log tilt under which latents are inferred by MCMC while this stage learns; None for the prior's own.
        recipe: the recipe that `module` was built from, with keys that do not change the meaning of its weights (a
            dropout rate) at their defaults. `train.backbone_from` reuses the weights of another run only if both
            recipes are equal. None compares the names and shapes of the weights alone.
        reads: what the objective reads of posterior draws besides what the module's energies see: "latents" for u, z, σ
            and the context, "u" for u and the context alone, "posterior" for the other fields of `Posterior`, "q_u" for
            this one alone. Draws that are stored keep only that, and an objective that reads no z spares itself T(u).
        contrasted: for a stage that learns a log ratio: called as `LearnsByContrast.contrasted` is, to validate it on
            held-out images (`data.validation`). None for any other.
        held_out: for a stage that is validated by a loss: called as `held_out(backbone, posterior, noise)` with draws
            of held-out images, to return the loss on them. None for a stage whose loss does not measure it, such as
            a difference of energies under chains.
    """

    name: str
    module: nn.Module
    objective: Callable[..., Loss]
    with_backbone: bool = False
    start: Callable[[Backbone, Noise, RowCache], None] | None = None
    tilt: Tilt | None = None
    recipe: object | None = None
    reads: tuple[str, ...] = ("latents", "posterior")
    contrasted: Callable[[Backbone, Latents, Noise], Contrasted] | None = None
    held_out: Callable[[Backbone, Posterior, Noise], HeldOutLoss] | None = None

    @property
    def key(self) -> str:
        """The name as part of a noise's key."""
        return self.name.replace(" ", "-")


class PriorLearner(nn.Module, ABC):
    """A prior over u. It holds no reference to a backbone: methods are given one.

    A root overrides `sample`. A tilt of a root has a method `tilt` (`Tilts`), lists its `transitions`, and inherits
    `sample`, `density` and `stages`. A prior that is drawn by exact or ancestral moves alone may leave out `tilt`: then
    it has no density and no scores. Rarer abilities are the protocols below.

    `root` is the prior that it tilts, None for a root. Annotate it, never set it on the class: a class attribute
    would hide the registered sub-module. `start` is the prior whose draws its chains start at (`starting`), None for
    the root. `population` says how many particles each sample has. `reads` is what the
    objective reads of posterior draws, as `Stage.reads` has it.
    """

    root: PriorLearner | None
    population: Population = Population()
    reads: tuple[str, ...] = ("latents", "posterior")

    def __init__(self) -> None:
        super().__init__()
        self.start: PriorLearner | None = None

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List the moves from the root's draw to this prior. Nothing is computed before `hebm.transitions.walk`."""
        return ()

    def planned_transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List the transitions that the trained prior will have, for checks before training.

        Override it if `transitions` leaves out those of stages that are not trained yet.
        """
        return self.transitions(backbone)

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
        """Return the loss of this prior on posterior draws (detached). It does not know which scheme made them.

        A loss on an energy evaluates `energy.perturbed(noise.derive("energy"))`, and ends with
        `loss.plus("penalty", energy.penalty(posterior.latents))`.
        """
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
        """List what is trained, one after another: `stages_before`, then all of this prior's own sub-modules as one.

        Raises `PluginError` for parameters outside of sub-modules, which would not be trained.
        """
        loose = [name for name, _ in self.named_parameters(recurse=False)]
        if loose:
            raise PluginError(
                f"{type(self).__name__}: parameters {', '.join(loose)} are set on the prior itself; put them into a "
                "sub-module, or override stages()"
            )
        before = self.stages_before()
        own = [module for name, module in self.named_children() if name not in ("root", "start")]
        if not own:
            return before
        module = own[0] if len(own) == 1 else nn.ModuleList(own)
        contrasted = self.contrasted if isinstance(self, LearnsByContrast) else None
        return (*before, Stage("prior", module, self.objective, reads=self.reads, contrasted=contrasted))

    def stages_before(self) -> tuple[Stage, ...]:
        """List the root's stages, then those of the start, whose names begin with "start"."""
        root = () if self.root is None else self.root.stages()
        start = () if self.start is None else self.start.stages()
        return (*root, *(stage._replace(name=f"start {stage.name}") for stage in start))


# ---------------------------------------------------------------- rare abilities of a prior, asked for by isinstance


@runtime_checkable
class Tilts(Protocol):
    """A prior with a tilt: log p(u) − log N(u; 0, I) up to a constant."""

    def tilt(self, latents: Latents) -> Tensor:
        """Return f per energy, `(B, E)`, for scores, histograms and posterior chains."""


@runtime_checkable
class LearnsByContrast(Protocol):
    """A prior that learns a log ratio, by telling posterior draws from draws of another prior."""

    def contrasted(self, backbone: Backbone, latents: Latents, noise: Noise) -> Contrasted:
        """Return posterior draws, as many negatives, and the log ratio that tells them apart, for validation.

        It is called once for each batch of held-out images, without gradients, and the log ratio many times, in eval
        mode. Negatives are new draws of `noise`, never those of a pool that is trained on.

        Arguments:
            backbone: gives T.
            latents: posterior draws, with what the stage's energies see.
            noise: its rows are the images' numbers.
        """


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
        """The shape of the context c, without the batch dimension."""

    def context_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """Return one sample, `(B,)`, whose mean over noise is a lower bound on log p(c) of contexts `(B, *context)`.

        Do not exponentiate it: the mean of exp(bound) is larger than p(c).
        """

    def context_weight(self, context: Tensor, noise: Noise) -> Tensor:
        """Return log w, `(B,)`, with E[w] = p(c), for importance weights."""


@runtime_checkable
class Regenerates(Protocol):
    """A prior with levels of noise, which redraws some coordinates while it moves the others by the lowest level."""

    def regenerate(
        self, backbone: Backbone, latents: Latents, fixed: Fixed, noise: Noise, path: tuple[Transition, ...]
    ) -> Tensor:
        """Return u `(B, D)` of `latents` with the free coordinates redrawn given the fixed ones and the context.

        `path` is that of a draw, with its step sizes: the prior's transitions.
        """


def tilt_of(prior: PriorLearner) -> Tilt | None:
    """Return the log tilt of a prior; None for a root. What its start sees, f does not."""
    if not isinstance(prior, Tilts):
        return None
    return Tilt(
        prior.tilt, (prior,) if prior.start is None else tuple(m for m in prior.children() if m is not prior.start)
    )


def tilt_after(prior: PriorLearner, backbone: Backbone, after: str | None) -> Tilt | None:
    """Return the log tilt of a prior after one of its transitions; None at the root.

    Arguments:
        prior: any prior.
        backbone: gives the transitions.
        after: a transition's name, or None for the prior itself. Where transitions have ratios, the tilt is their sum
            up to this one; one without a ratio makes the start of the next that has one, whose target it shares. Where
            none has a ratio (a chain of conditionals), the tilt is the prior's own, that of its end.
    """
    listed = prior.transitions(backbone)
    done = len(up_to(listed, after))
    if after == ROOT:
        return None
    if after is None or not any(transition.ratio for transition in listed):
        return tilt_of(prior)
    while listed[done - 1].ratio is None and done < len(listed):
        done += 1
    return total(tuple(transition.ratio(None) for transition in listed[:done] if transition.ratio is not None))


# ---------------------------------------------------------------- recipes: what is registered


class EnergyRecipe(ABC):
    """Builds an energy; registered in the group `hebm_energies`."""

    group: ClassVar[str] = "hebm_energies"

    @abstractmethod
    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> EnergyFn:
        """Build an energy with K = `logits` outputs, for t in {0, …, levels − 1}.

        The layout has the shapes of what there is to see: latents, context, decoded image, decoder features.

        Raises `ConfigError` if the energy does not fit the layout.
        """


class PriorRecipe(ABC):
    """Builds a prior; registered in the group `hebm_priors`."""

    group: ClassVar[str] = "hebm_priors"

    @abstractmethod
    def build(self, backbone: Backbone) -> PriorLearner:
        """Build a prior for this backbone's layout. Raises `ConfigError` if it does not fit."""


def build_energy(
    recipe: EnergyRecipe,
    layout: LatentLayout,
    logits: int = 1,
    levels: int = 1,
    sees: Collection[str] = tuple(SHOWN),
    instead: str = "use another energy or prior",
    key: str = "prior.energy",
) -> EnergyFn:
    """Build the energy of a prior.

    Arguments:
        recipe: of the energy.
        layout: of the backbone.
        logits: K.
        levels: how many values t has.
        sees: what the prior can show to an energy besides z, names in `EnergyFn.sees`.
        instead: what to use in place of an energy that sees something else, for the error.
        key: of the energy in the configuration, for errors.

    Raises `ConfigError` for an energy that sees what the prior cannot show, or what the backbone does not show.
    """
    energy = recipe.build(layout, logits, levels)
    found = sees_of(energy)
    for name in found:
        if name not in sees:
            raise ConfigError(
                f"{key}: this energy sees {SHOWN[name].what} ({name!r}), which this prior cannot show to it; {instead}"
            )
    expect_shown(layout, found, key)
    return energy


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


def build_start(recipe: PriorRecipe | None, backbone: Backbone, key: str = "prior.start") -> PriorLearner | None:
    """Build the prior whose draws chains start at; None without a recipe.

    Raises `ConfigError` unless it draws in the context that the backbone expects, and with fixed step sizes.
    """
    if recipe is None:
        return None
    start = recipe.build(backbone)
    check_context(start, backbone.layout, key)
    if any(has_target(transition) for transition in start.planned_transitions(backbone)):
        raise ConfigError(
            f"{key}: step sizes are adapted for the chains of the prior itself alone; set a step size that fits, and "
            f"{key}.sampler.target_acceptance = 0"
        )
    return start


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
