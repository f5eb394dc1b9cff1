"""The way from a root to a prior: a list of transitions, and the walk along them.

A prior lists its transitions, `PriorLearner.transitions(backbone)`; `walk` draws from the root and applies them in
order. (Code that looks into single moves, such as `Regenerates`, may replay a list by hand.) Every transition moves a
draw to a draw and has a name: "prior", "level 2", "stage 1", "layer 0". Observers are told the name, `Request.after`
gives the one to stop after, and analyses show it.

    root ──▶ transition ──▶ transition ──▶ … ──▶ prior

With a `Population` of P > 1, each sample has P particles: before a transition moves them, they are weighted by its
`ratio` and resampled where few of them carry the weight (sequential Monte Carlo, `hebm.particles`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor

from hebm.densities import LogDensity
from hebm.draws import Draw, Observer, Request
from hebm.errors import ConfigError
from hebm.latents import Fixed
from hebm.noise import Noise
from hebm.particles import Particles, select
from hebm.samplers import Info, Sampler
from hebm.sampling import run
from hebm.tilts import Tilt

if TYPE_CHECKING:
    from hebm.interfaces import Backbone, PriorLearner

ROOT = "root"
"""The name of the draw before the first transition."""


@attrs.frozen(eq=False, kw_only=True)
class Transition(ABC):
    """One move of a draw on its way from the root to the prior.

    Arguments:
        name: unique among the prior's transitions.
        from_root: start at the root's draw, not where the transition before ended.
        ratio: labels → log p_after − log p_before as a tilt: the weight of a particle before the move, and the score
            of a stage by itself. None where the densities before and after are not known.
    """

    name: str
    from_root: bool = False
    ratio: Callable[[Tensor | None], Tilt] | None = None

    @property
    @abstractmethod
    def steps(self) -> int:
        """The length of the chain, 0 if the move is exact."""

    @abstractmethod
    def move(self, at: Draw, noise: Noise, request: Request) -> Draw:
        """Move a draw.

        Arguments:
            at: where the transition starts.
            noise: of the whole draw: derive from it by a key of your own, never draw from it.
            request: has a row for each row of `at`; its fixed coordinates are given.
        """


@attrs.frozen(eq=False, kw_only=True)
class Exact(Transition):
    """A move without a chain: exact or ancestral sampling, or a choice among proposals, which may be approximate.

    Arguments:
        apply: moves a draw, given noise of its own and the request.
        key: of that noise; by default the transition's name.
    """

    apply: Callable[[Draw, Noise, Request], Draw]
    key: tuple[int | str, ...] = attrs.field()

    @key.default
    def _own_name(self) -> tuple[int | str, ...]:
        return (self.name,)

    @property
    def steps(self) -> int:
        """0."""
        return 0

    def move(self, at: Draw, noise: Noise, request: Request) -> Draw:
        """Apply the move to the draw."""
        return self.apply(at, noise.derive(*self.key), request)


def _as_requested(at: Draw, noise: Noise, fixed: Fixed | None) -> Fixed | None:
    return fixed


@attrs.frozen(eq=False, kw_only=True)
class MCMC(Transition):
    """A chain on a density.

    Arguments:
        sampler: makes each step.
        density: what the chain leaves invariant, given where it starts and the request. It is built when the chain
            starts, so listing transitions costs nothing.
        key: of the chain's noise.
        fixed: what the chain keeps fixed, given where it starts, noise, and what the request fixes; by default what the
            request fixes.
    """

    sampler: Sampler
    density: Callable[[Draw, Request], LogDensity]
    key: tuple[int | str, ...] = ("chain",)
    fixed: Callable[[Draw, Noise, Fixed | None], Fixed | None] = _as_requested

    @property
    def steps(self) -> int:
        """The sampler's steps."""
        return self.sampler.steps

    def move(self, at: Draw, noise: Noise, request: Request) -> Draw:
        """Run the chain from each row of the draw."""
        fixed = self.fixed(at, noise, request.fixed)
        if fixed is not None and fixed.everything:
            return at
        density, source = self.density(at, request), noise.derive(*self.key)
        return at.moved(
            run(self.sampler, density, at.u, source, request.steps, request.observe, fixed, self.name).u,
        )


def best_of(
    name: str, proposals: int, density: Callable[[Draw, Request], LogDensity], from_root: bool = False
) -> Exact:
    """Return a start for a chain: one of P proposals from the density's Gaussian factor, chosen by exp remainder (SIR).

    Of the draw it starts from only the context counts. The diagnostic `ess_<name>` is ESS / P of the weights.

    Arguments:
        name: of the transition.
        proposals: P.
        density: log N(u; m, s² I) + remainder(u), given the draw and the request.
        from_root: see `Transition`.

    When the transition moves a draw, it raises `ConfigError` if the density has no Gaussian factor.
    """

    def apply(at: Draw, noise: Noise, request: Request) -> Draw:
        target = density(at, request)
        factor = target.factor()
        if factor is None:
            raise ConfigError(
                f"{name}: proposals need a density with a Gaussian factor, {type(target).__name__} has none; "
                "use 1 proposal"
            )

        def placed(offered: Tensor) -> Tensor:
            u = factor.mean + factor.std * offered
            return u if request.fixed is None else request.fixed.apply(u)

        def log_weight(offered: Tensor) -> Tensor:
            return torch.stack([target.remainder(placed(u)) for u in offered.unbind(1)], dim=1)

        found = select(log_weight, at.u.shape[0], at.u.shape[1], proposals, noise)
        return at.moved(placed(found.u), {f"ess_{name}": found.share})

    return Exact(name=name, apply=apply, from_root=from_root)


# ---------------------------------------------------------------- the walk


@attrs.frozen
class Population:
    """Particles of each sample.

    With more than one, each sample's root draw is the first of P; without any transition it is a single draw.

    Arguments:
        count: P.
        threshold: ESS / P below which they are resampled; 1 always does.
    """

    count: int = 1
    threshold: float = 0.5


def up_to(listed: tuple[Transition, ...], after: str | None = None) -> tuple[Transition, ...]:
    """Return the transitions up to and including the one called `after`.

    Arguments:
        listed: all transitions of a prior.
        after: a name among them, "root" for none of them, or None for all.

    Raises `ConfigError` for another name.
    """
    names = [transition.name for transition in listed]
    if after is not None and after not in (ROOT, *names):
        known = ", ".join(map(repr, (ROOT, *names)))
        raise ConfigError(f"after: this prior has no transition {after!r}; it has {known}")
    return listed if after is None else listed[: names.index(after) + 1 if after != ROOT else 0]


def path_to(listed: tuple[Transition, ...], after: str | None = None) -> tuple[Transition, ...]:
    """Return the transitions that a draw runs: those up to `after`, from the last one that starts at the root.

    See `up_to` for the arguments.
    """
    needed = up_to(listed, after)
    first = max((i for i, transition in enumerate(needed) if transition.from_root), default=0)
    return needed[first:]


@torch.no_grad()
def walk(
    prior: PriorLearner,
    backbone: Backbone,
    n: int,
    noise: Noise,
    request: Request = Request(),
    path: tuple[Transition, ...] | None = None,
) -> Iterator[tuple[str, Draw]]:
    """Yield the root's draw and the draw after each transition, with their names.

    Fixed coordinates are shown as given after each transition; inside, a transition may move them (a diffusion prior
    adds a level's noise).

    Arguments:
        prior: whose transitions are walked.
        backbone: gives T.
        n: how many samples.
        noise: its rows are the samples' global indices.
        request: what the draws should be like.
        path: transitions to walk, instead of the route to `request.after`.
    """
    path = path_to(prior.transitions(backbone), request.after) if path is None else path
    if prior.population.count > 1 and path:
        yield from _weighted(prior, path, backbone, n, noise, request)
        return
    at = start = _root_draw(prior, backbone, n, noise.derive("base"), request)
    yield ROOT, start.fixed_as(request.fixed)
    for transition in path:
        at = transition.move(start if transition.from_root else at, noise, request)
        yield transition.name, at.fixed_as(request.fixed)


def root_of(prior: PriorLearner) -> PriorLearner:
    """Return the root that a prior tilts, itself for a root."""
    return prior if prior.root is None else prior.root


def _root_draw(prior: PriorLearner, backbone: Backbone, n: int, noise: Noise, request: Request) -> Draw:
    return root_of(prior).sample(backbone, n, noise, attrs.evolve(request, fixed=None, after=None, observe=None))


def _weighted(
    prior: PriorLearner, path: tuple[Transition, ...], backbone: Backbone, n: int, noise: Noise, request: Request
) -> Iterator[tuple[str, Draw]]:
    """Walk with P particles of each sample: w_j ← w_j r_s(u_j), resample, move; yield one particle chosen by weight.

    Raises `ConfigError` for a transition without a ratio, or one that starts at the root.
    """
    for transition in path:
        _require_ratio(transition)
    count, grouped = prior.population.count, noise.grouped(prior.population.count)
    each = attrs.evolve(request.repeated(count), observe=_first_of(request.observe, count))
    start = _root_draw(prior, backbone, n * count, grouped.derive("base"), each).fixed_as(each.fixed)
    first = start.rows(slice(None, None, count))
    yield ROOT, first
    context = None if first.context is None else first.context.repeat_interleave(count, 0)
    particles = Particles.equal(start.u.view(n, count, -1))
    for s, transition in enumerate(path, 1):
        at = Draw(particles.u.flatten(0, 1), context)
        log_ratio = _log_ratio(transition, backbone, at, each).view(n, count)
        particles = particles.reweighted(log_ratio, prior.population.threshold, noise.derive("resample", s))
        at = transition.move(at.moved(particles.u.flatten(0, 1)), grouped, each)
        particles = particles.moved(at.u)
        chosen = first.moved(particles.chosen(noise.derive("choice")), {"ess": particles.share})
        yield transition.name, chosen.fixed_as(request.fixed)


def _log_ratio(transition: Transition, backbone: Backbone, at: Draw, request: Request) -> Tensor:
    """Return log p_after − log p_before of each row."""
    ratio = _require_ratio(transition)(request.labels)
    return ratio.at(backbone, backbone.latents(at.u, at.context)).sum(1)


def _require_ratio(transition: Transition) -> Callable[[Tensor | None], Tilt]:
    if transition.ratio is None or transition.from_root:
        raise ConfigError(
            f"prior.population: particles are weighted by a transition's ratio, and {transition.name!r} "
            f"{'starts from the root' if transition.from_root else 'has none'}; draw with one particle per sample"
        )
    return transition.ratio


def _first_of(observe: Observer | None, count: int) -> Observer | None:
    """Return an observer that sees the first particle of each sample."""
    if observe is None:
        return None

    def first(name: str, step: int, state: Any, info: Info) -> None:
        accepted = None if info.accepted is None else info.accepted[::count]
        observe(name, step, (state[0][::count],), Info(info.value[::count], info.grad[::count], accepted))

    return first
