"""The interfaces between the core and its plugins: read this file first.

    image x ──infer──▶ latents z ──T⁻¹──▶ u ────────learn────────▶ prior p(u)
                                                                      │ sample (MCMC or ancestral)
    image x ◀─decode── latents z ◀──T─── u ◀──────────draw────────────┘

**Sign convention:** f is the *log tilt*: a large f is a likely latent; the energy is −f. A learned prior tilts a root
prior: log p(u) = f(T(u)) + log N(u; 0, I) − log Z.  A root draws u ~ N(0, I). If the backbone has a context, the root
draws it, too.

**Order:** latent layers are listed top first. **Range:** images are in [−1, 1].

A plugin registers a *recipe* under a name: a frozen attrs class (`hebm.config.recipes`) whose fields are TOML keys and
whose `build` makes the live object. All random numbers come from a `Noise` argument. Components use PyTorch's global
generator only to initialise parameters.

The author of a prior can import everything from this module.
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
    HasFinalWeights,
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
from hebm.gradients import Differentiates, Gradients, PullBack, PullsBack, own_gradients
from hebm.hierarchy import Hierarchy, InferringHierarchy, Layer, MarkovHierarchy, posterior_of
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
    "Differentiates",
    "Draw",
    "DrawsContext",
    "EnergyFn",
    "EnergyRecipe",
    "Exact",
    "Finalizes",
    "FitsStatistics",
    "Fixed",
    "Gradients",
    "HasFinalWeights",
    "HeldOutLoss",
    "Hierarchy",
    "ImageSpec",
    "InferringBackbone",
    "InferringHierarchy",
    "Info",
    "LatentLayout",
    "Latents",
    "Layer",
    "LearnsByContrast",
    "LogDensity",
    "Loss",
    "MarkovHierarchy",
    "Noise",
    "Normalised",
    "Observer",
    "Population",
    "Posterior",
    "PreparesTraining",
    "PriorLearner",
    "PriorRecipe",
    "Progress",
    "PullBack",
    "PullsBack",
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
    "ValidatedByLoss",
    "best_of",
    "build_energy",
    "build_root",
    "build_start",
    "check_context",
    "context_of",
    "own_gradients",
    "posterior_of",
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
    """Computes the log tilt f of latents; a large f means a likely latent.

    `sees` names the inputs that the energy reads: "latents" for u, z, σ and the context, "image" for `latents.image` =
    E[x|z], "features" for `latents.features` and "last-feature" for `latents.last_feature`. The last two need a
    backbone that exposes its decoder's features (`ShowsFeatures`). The image and the features are computed once per
    evaluation of a density, and only if an energy sees them.

    An energy is deterministic, also in train mode. To regularise it, add modules of `hebm.perturbations` (`Dropout`,
    `Shift`, `Rounding`) to its net. Priors train with `perturbed` and `penalty`.

    Attributes:
        gradient_penalty: weight w of `penalty`; 0 turns it off.
    """

    sees: tuple[str, ...] = ("latents",)
    gradient_penalty: float = 0.0

    @abstractmethod
    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, E, K)`, for E = L layers or E = 1 net over all of them, and K = 1 or K raw logits.

        Arguments:
            latents: B points.
            t: noise level of each point, `(B,)`, for priors with levels; otherwise None.
        """

    @torch.no_grad()
    def count(self, layout: LatentLayout) -> int:
        """Return E for latents of this layout."""
        parameter, training = next(self.parameters(), torch.zeros(())), self.training
        f: Tensor = self.eval()(layout.zeros(parameter), parameter.new_zeros(1, dtype=torch.int64))
        self.train(training)
        return f.shape[1]

    def of_layer(self, latents: Latents, layer: int, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, K)` of energy `layer` alone, 0 the first. Override it to compute only this one."""
        f: Tensor = self(latents, t)[:, layer]
        return f

    def folded(self, t: Tensor | None = None) -> EnergyFn:
        """Return an equal view for one chain that computes terms of t and the weights once."""
        return self

    def perturbed(self, noise: Noise) -> EnergyFn:
        """Return a view for one step of training whose dropout masks and shifts are drawn from `noise`.

        The view shares the parameters. Each call of `forward` takes the next draws of `noise`, so posterior draws and
        negatives get different masks. Row i uses row i of the noise, whatever the number of processes. An energy
        without modules of `hebm.perturbations` returns itself.
        """
        return view(self, noise)

    def penalty(self, latents: Latents, t: Tensor | None = None) -> Tensor | None:
        """Return the zero-centred gradient penalty R1 = (w/2) E Σ_k |∇_s Σ_e f_ek|² at posterior draws, in nats.

        w is `gradient_penalty`, and s is every input of f: u, z and what `sees` names. The loss adds this term. Returns
        None if w = 0. It costs a second derivative for each logit k (Mescheder et al. 2018, arXiv 1801.04406).
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
    """One part of a prior, trained in its own phase.

    Arguments:
        name: unique within the prior; also the name of the phase, and of the transition that draws from the trained
            stage.
        module: the module whose parameters this stage trains.
        objective: computes the loss, with the arguments of `PriorLearner.objective`.
        with_backbone: True if the objective is a term of the backbone's objective, trained in the same phase.
        start: sets up state that all steps of the stage share, such as a pool of samples. It is called as
            `start(backbone, noise, cache)` when training of the stage starts and again when it resumes, with the same
            noise both times. The result may depend only on the noise and on saved state. The cache stores rows that
            take long to compute (`hebm.store.row_cache`).
        tilt: the log tilt of the posterior that MCMC infers latents from while this stage trains; None for the prior's
            tilt.
        recipe: the recipe that `module` was built from. Keys that do not change the meaning of the weights, such as a
            dropout rate, are at their defaults. `train.backbone_from` reuses the weights of another run only if both
            recipes are equal. None compares only the names and shapes of the weights.
        reads: the parts of posterior draws that the objective reads, in addition to the inputs of the module's
            energies: "latents" for u, z, σ and the context, "u" for u and the context, "posterior" for all other fields
            of `Posterior`, "q_u" for this field alone. Stored draws keep only these parts. If the objective reads no z,
            T(u) is not computed.
        contrasted: for a stage that learns a log ratio: validates it on held-out images (`data.validation`), with the
            arguments of `LearnsByContrast.contrasted`. None for other stages.
        held_out: for a stage that is validated by its loss: returns the loss on posterior draws of held-out images,
            called as `held_out(backbone, posterior, noise)`. None if the loss does not measure the quality of the
            stage, such as a difference of energies under chains.
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
        """The name in the form used in noise keys."""
        return self.name.replace(" ", "-")


class PriorLearner(nn.Module, ABC):
    """A prior over u. It holds no reference to a backbone; methods take one as an argument.

    A root overrides `sample`. A prior that tilts a root defines `tilt` (`Tilts`), lists its `transitions`, and inherits
    `sample`, `density` and `stages`. A prior that uses only exact or ancestral moves may leave out `tilt`; it then has
    no density and no scores. The protocols below add optional abilities.

    Attributes:
        root: the prior that this one tilts; None for a root. Annotate it, never set it on the class: a class attribute
            would hide the registered sub-module.
        start: the prior whose draws the chains start at (`starting`); None for the root.
        population: the number of particles of each sample.
        reads: the parts of posterior draws that the objective reads, as in `Stage.reads`.
    """

    root: PriorLearner | None
    population: Population = Population()
    reads: tuple[str, ...] = ("latents", "posterior")

    def __init__(self) -> None:
        super().__init__()
        self.start: PriorLearner | None = None

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List the moves from the root's draw to this prior, without running them (`hebm.walking.walk` does)."""
        return ()

    def planned_transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List the transitions that the trained prior will have, for checks before training.

        Override it if `transitions` leaves out stages that are not trained yet.
        """
        return self.transitions(backbone)

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = Request()) -> Draw:
        """Draw n samples of u: apply the transitions to a draw of the root.

        Arguments:
            backbone: gives T.
            n: number of samples.
            noise: row i belongs to the sample with global index i.
            request: settings of the draws.

        Raises `ConfigError` if the request stops after an unknown transition.
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
        """Return the loss of this prior on posterior draws (detached). It must not depend on the scheme that made them.

        The loss of an energy evaluates `energy.perturbed(noise.derive("energy"))`, and ends with
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
        """List the stages in training order: `stages_before`, then all sub-modules of this prior as one stage.

        Raises `PluginError` for parameters outside of sub-modules, since they would not be trained.
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
        stage = Stage(
            "prior",
            module,
            self.objective,
            start=self.prepare if isinstance(self, PreparesTraining) else None,
            reads=self.reads,
            contrasted=self.contrasted if isinstance(self, LearnsByContrast) else None,
            held_out=self.held_out if isinstance(self, ValidatedByLoss) else None,
        )
        return (*before, stage)

    def stages_before(self) -> tuple[Stage, ...]:
        """List the root's stages, then the stages of `start` with the prefix "start" in their names."""
        root = () if self.root is None else self.root.stages()
        start = () if self.start is None else self.start.stages()
        return (*root, *(stage._replace(name=f"start {stage.name}") for stage in start))


# ---------------------------------------------------------------- optional abilities of a prior, tested by isinstance


@runtime_checkable
class Tilts(Protocol):
    """A prior with a tilt: log p(u) − log N(u; 0, I) up to a constant."""

    def tilt(self, latents: Latents) -> Tensor:
        """Return f of each energy, `(B, E)`. Scores, histograms and posterior chains use it."""


@runtime_checkable
class Normalised(Protocol):
    """A prior whose log Z is known: log p(u) = f(T(u; c)) + log N(u; 0, I) − log Z, such as a normalising flow.

    Bounds on the likelihood then need no estimate of log Z.
    """

    @property
    def log_z(self) -> float:
        """log Z = log E_{u ~ N(0, I)} exp f(T(u; c)) in nats, at the current weights; the same for every context c."""


@runtime_checkable
class PreparesTraining(Protocol):
    """A prior that sets up state when its training starts, such as statistics of the backbone's features."""

    def prepare(self, backbone: Backbone, noise: Noise, cache: RowCache) -> None:
        """Set up state of the inherited stage, as in `Stage.start`."""


@runtime_checkable
class ValidatedByLoss(Protocol):
    """A prior whose loss measures its quality, so that held-out images validate it (`data.validation`)."""

    def held_out(self, backbone: Backbone, posterior: Posterior, noise: Noise) -> HeldOutLoss:
        """Return the loss on posterior draws of held-out images, as in `Stage.held_out`."""


@runtime_checkable
class LearnsByContrast(Protocol):
    """A prior that learns a log ratio by classifying posterior draws against draws of another prior."""

    def contrasted(self, backbone: Backbone, latents: Latents, noise: Noise) -> Contrasted:
        """Return posterior draws, an equal number of negatives, and the log ratio between them, for validation.

        It is called once for each batch of held-out images, without gradients. The log ratio is called many times, in
        eval mode. Draw the negatives from `noise`; never take them from a pool used in training.

        Arguments:
            backbone: gives T.
            latents: posterior draws, with the inputs of the stage's energies.
            noise: row i belongs to image i of the data set.
        """


@runtime_checkable
class TakesLabels(Protocol):
    """A prior that can be trained with labels."""

    @property
    def labelled(self) -> bool:
        """True if draws depend on the labels of a request."""

    def check(self, images: ImageSpec) -> None:
        """Raise `ConfigError`, before training, if the prior's labels differ from the labels of the images."""


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
    """A prior with levels of noise that redraws some coordinates of u and perturbs the others by the lowest level."""

    def regenerate(
        self, backbone: Backbone, latents: Latents, fixed: Fixed, noise: Noise, path: tuple[Transition, ...]
    ) -> Tensor:
        """Return u `(B, D)` of `latents` with the free coordinates redrawn given the fixed ones and the context.

        `path` has the prior's transitions with the step sizes of a draw.
        """


def tilt_of(prior: PriorLearner) -> Tilt | None:
    """Return the log tilt of a prior; None for a root. The modules of `prior.start` are not part of it."""
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
        after: a transition's name; None for the prior itself. If transitions have ratios, the tilt is the sum of the
            ratios up to this one. A transition without a ratio only starts the next one that has a ratio, so both share
            its target. If no transition has a ratio (a chain of conditionals), the tilt is that of the whole prior.
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


# ---------------------------------------------------------------- recipes, which plugins register


class EnergyRecipe(ABC):
    """Builds an energy. Plugins register it in the group `hebm_energies`."""

    group: ClassVar[str] = "hebm_energies"

    @abstractmethod
    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> EnergyFn:
        """Build an energy with K = `logits` outputs, for t in {0, …, levels − 1}.

        The layout has the shapes of all inputs of an energy: latents, context, decoded image, decoder features.

        Raises `ConfigError` if the energy does not fit the layout.
        """


class PriorRecipe(ABC):
    """Builds a prior. Plugins register it in the group `hebm_priors`."""

    group: ClassVar[str] = "hebm_priors"

    @abstractmethod
    def build(self, backbone: Backbone) -> PriorLearner:
        """Build a prior for this backbone's layout. Raises `ConfigError` if the prior does not support it."""


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
        recipe: the energy's recipe.
        layout: the backbone's layout.
        logits: K.
        levels: the number of values of t.
        sees: the inputs besides z that the prior provides, by the names in `EnergyFn.sees`.
        instead: the advice in the error for an energy that sees another input.
        key: the energy's key in the configuration, for errors.

    Raises `ConfigError` for an energy that sees an input which the prior or the backbone does not provide.
    """
    energy = recipe.build(layout, logits, levels)
    found = sees_of(energy)
    for name in found:
        if name not in sees:
            raise ConfigError(
                f"{key}: this energy sees {SHOWN[name].what} ({name!r}), which this prior does not provide; {instead}"
            )
    expect_shown(layout, found, key)
    return energy


def build_root(recipe: PriorRecipe, backbone: Backbone, key: str = "prior.root") -> PriorLearner:
    """Build the root that a prior tilts.

    Raises `ConfigError` unless it is a root, u ~ N(0, I), with the context that the backbone expects.
    """
    root = recipe.build(backbone)
    if root.root is not None:
        raise ConfigError(
            f"{key}: {type(root).__name__} tilts a root itself, and f(T(u)) − |u|²/2 would ignore its tilt; use a "
            'root, such as type = "gaussian"'
        )
    check_context(root, backbone.layout, key)
    return root


def build_start(recipe: PriorRecipe | None, backbone: Backbone, key: str = "prior.start") -> PriorLearner | None:
    """Build the prior whose draws the chains start at; None without a recipe.

    Raises `ConfigError` if it draws another context than the backbone expects, or adapts step sizes.
    """
    if recipe is None:
        return None
    start = recipe.build(backbone)
    check_context(start, backbone.layout, key)
    if any(has_target(transition) for transition in start.planned_transitions(backbone)):
        raise ConfigError(
            f"{key}: only the chains of the prior itself can adapt their step size; set a step size that fits, and "
            f"{key}.sampler.target_acceptance = 0"
        )
    return start


def context_of(prior: PriorLearner) -> tuple[int, ...] | None:
    """Return the shape of the context that the root of a prior draws, or None."""
    root = root_of(prior)
    return root.context if isinstance(root, DrawsContext) else None


def check_context(prior: PriorLearner, layout: LatentLayout, key: str) -> None:
    """Raise `ConfigError` unless the root of `prior` draws the context that `layout` expects."""
    drawn = context_of(prior)
    if drawn == layout.context:
        return
    fix = (
        'use a root without a context, such as type = "gaussian"'
        if layout.context is None
        else f"use a root that draws a context of shape {layout.context}"
    )
    raise ConfigError(f"{key}: the prior draws context {drawn}, the backbone expects {layout.context}; {fix}")
