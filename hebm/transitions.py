"""The way from a root to a prior: a list of transitions.

A prior lists its transitions, `PriorLearner.transitions(backbone)`; `hebm.walking.walk` draws from the root and applies
them in order. (Code that looks into single moves, such as `Regenerates`, may replay a list by hand.) Every transition
moves a draw to a draw and has a name: "prior", "level 2", "stage 1", "layer 0". Observers are told the name,
`Request.after` gives the one to stop after, and analyses show it.

    root ──▶ transition ──▶ transition ──▶ … ──▶ prior
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from hebm.densities import LogDensity
from hebm.draws import Draw, Request
from hebm.errors import ConfigError
from hebm.fixed import Fixed
from hebm.noise import Noise
from hebm.particles import select
from hebm.samplers import Sampler
from hebm.sampling import run
from hebm.tilts import Tilt

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

    @property
    def length(self) -> int:
        """The steps that `Request.steps` replaces: those of a chain; 0 if the move has no steps."""
        return self.steps

    @property
    def start_proposals(self) -> int:
        """The P that `Request.start_proposals` replaces; 0 unless the move chooses where a chain starts."""
        return 0

    def check(self, at: Draw) -> None:  # noqa: B027 most moves can be made from any draw
        """Raise `ConfigError` if the move cannot be made from draws like this one. Asked before training."""

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
        length: steps of an ancestral move that are as many as `Request.steps` asks for.
        start_proposals: P of a choice among as many proposals as `Request.start_proposals` asks for; see `best_of`.
    """

    apply: Callable[[Draw, Noise, Request], Draw]
    key: tuple[int | str, ...] = attrs.field()
    length: int = 0
    start_proposals: int = 0

    @key.default
    def _own_name(self) -> tuple[int | str, ...]:
        return (self.name,)

    @property
    def steps(self) -> int:
        """Return 0: an exact move has no chain."""
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
        """The steps that the sampler was built with."""
        return self.sampler.steps

    def check(self, at: Draw) -> None:
        """Raise `ConfigError` if the sampler cannot move on the density."""
        self.sampler.check(self.density(at, Request()))

    def move(self, at: Draw, noise: Noise, request: Request) -> Draw:
        """Run the chain from each row of the draw."""
        fixed = self.fixed(at, noise, request.fixed)
        if fixed is not None and fixed.everything:
            return at
        density, source = self.density(at, request), noise.derive(*self.key)
        return at.moved(
            run(self.sampler, density, at.u, source, request.steps, request.observe, fixed, self.name).u,
        )


Offer = Callable[[Draw, Request, int, Noise], Tensor]
"""Returns C proposals `(n, C, D)` for each of n draws, given the draws, the request, C and the proposals' noise."""


def best_of(
    name: str,
    proposals: int,
    density: Callable[[Draw, Request], LogDensity],
    from_root: bool = False,
    key: tuple[int | str, ...] | None = None,
    offer: Offer | None = None,
) -> Exact:
    """Return a start for a chain: one of P proposals, chosen with probability ∝ exp remainder (SIR).

    Proposals come from the density's Gaussian factor, or from `offer`. The weights leave out the density that an offer
    draws from: what is chosen is a place to start a chain at, not a weighted draw of the target.

    Of the draw it starts from only the context counts. The diagnostic `ess_<name>` is ESS / P of the weights. A request
    for another P is followed. With P = 1 the draw stays where it is, or moves to the one proposal of the offer.

    Arguments:
        name: of the transition.
        proposals: P, unless a request says otherwise; each evaluates the remainder once, without a gradient.
        density: log N(u; m, s² I) + remainder(u), given the draw and the request.
        from_root: see `Transition`.
        key: of the noise of proposals and choice; by default the name.
        offer: makes the proposals; None for the Gaussian factor.

    When the transition moves a draw, it raises `ConfigError` if proposals need a Gaussian factor that is not there.
    """

    def apply(at: Draw, noise: Noise, request: Request) -> Draw:
        count = proposals if request.start_proposals is None else request.start_proposals
        if count == 1:
            return at if offer is None else at.moved(offer(at, request, 1, noise).squeeze(1))
        target = density(at, request)
        offered = _factor_offer(name, target) if offer is None else offer

        def offers(c: int, source: Noise) -> Tensor:
            u = offered(at, request, c, source)
            return u if request.fixed is None else torch.where(request.fixed.mask, request.fixed.u.unsqueeze(1), u)

        def log_weight(u: Tensor) -> Tensor:
            return torch.stack([target.remainder(each) for each in u.unbind(1)], dim=1)

        found = select(log_weight, at.u.shape[0], at.u.shape[1], count, noise, offers)
        return at.moved(found.u, {f"ess_{name.replace(' ', '_')}": found.share})

    return Exact(name=name, apply=apply, from_root=from_root, key=key or (name,), start_proposals=proposals)


def _factor_offer(name: str, density: LogDensity) -> Offer:
    """Return an offer of draws of the density's Gaussian factor. Raises `ConfigError` if it has none."""
    factor = density.factor()
    if factor is None:
        raise ConfigError(
            f"{name}: proposals need a density with a Gaussian factor, {type(density).__name__} has none; "
            "use 1 proposal"
        )

    def offer(at: Draw, request: Request, count: int, noise: Noise) -> Tensor:
        xi = noise.normal(len(at.u), count, at.u.shape[1]).transpose(0, 1)  # (C, n, D): the factor has a row per draw
        return (factor.mean + factor.std * xi).transpose(0, 1)

    return offer


# ---------------------------------------------------------------- parts of a list


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


def require_start(listed: tuple[Transition, ...], asked: int | None, key: str = "start_proposals") -> None:
    """Raise `ConfigError` if a number of start proposals is asked for and no transition chooses among any.

    Arguments:
        listed: all transitions of a prior.
        asked: `Request.start_proposals`.
        key: what the number is called where it was given.
    """
    if asked is not None and not any(transition.start_proposals for transition in listed):
        raise ConfigError(
            f"{key}: the chains of this prior do not start at one of several draws; leave it out, or set "
            "prior.start_proposals above 1 where the prior has this key"
        )
