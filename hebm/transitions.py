"""Transitions: the moves that turn a draw of the root into a draw of the prior.

A prior lists its transitions in `PriorLearner.transitions(backbone)`. `hebm.walking.walk` draws from the root and
applies them in order. (Code that inspects single moves, such as `Regenerates`, may apply them itself.) Every transition
has a name, such as "prior", "level 2", "stage 1" or "layer 0". Observers receive this name, analyses show it, and
`Request.after` names the transition to stop after.

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
    """One move of a draw from the root towards the prior.

    Arguments:
        name: unique among the prior's transitions.
        from_root: start at the root's draw, not at the end of the previous transition.
        ratio: labels → log p_after − log p_before, as a tilt. It weights particles before the move and scores a stage
            on its own. None if one of the two densities is not known.
    """

    name: str
    from_root: bool = False
    ratio: Callable[[Tensor | None], Tilt] | None = None

    @property
    @abstractmethod
    def steps(self) -> int:
        """The length of the chain; 0 for an exact move."""

    @property
    def length(self) -> int:
        """The number of steps that `Request.steps` can replace; 0 if the move has no steps."""
        return self.steps

    @property
    def start_proposals(self) -> int:
        """The P that `Request.start_proposals` can replace; 0 unless the move chooses the start of a chain."""
        return 0

    def check(self, at: Draw) -> None:  # noqa: B027 most moves accept any draw
        """Raise `ConfigError` if the move does not accept draws like this one. It is called before training."""

    @abstractmethod
    def move(self, at: Draw, noise: Noise, request: Request) -> Draw:
        """Move a draw.

        Arguments:
            at: where the transition starts.
            noise: the noise of the whole draw. Derive from it by a key of your own; never draw from it.
            request: has one row for each row of `at`; the move keeps its fixed coordinates.
        """


@attrs.frozen(eq=False, kw_only=True)
class Exact(Transition):
    """A move without a chain: exact or ancestral sampling, or a choice among proposals, which may be approximate.

    Arguments:
        apply: moves a draw, given derived noise and the request.
        key: the key that the noise is derived by; the transition's name by default.
        length: number of steps of an ancestral move, if `Request.steps` can replace it.
        start_proposals: P of a choice among proposals, if `Request.start_proposals` can replace it; see `best_of`.
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
    """An MCMC chain on a density.

    Arguments:
        sampler: makes each step.
        density: returns the density that the chain leaves invariant, given the start of the chain and the request. It
            is called when the chain starts, so listing transitions costs nothing.
        key: the key that the chain's noise is derived by.
        fixed: returns the coordinates that the chain keeps fixed, given its start, noise, and the coordinates that the
            request fixes; by default the latter.
    """

    sampler: Sampler
    density: Callable[[Draw, Request], LogDensity]
    key: tuple[int | str, ...] = ("chain",)
    fixed: Callable[[Draw, Noise, Fixed | None], Fixed | None] = _as_requested

    @property
    def steps(self) -> int:
        """The number of steps that the sampler was built with."""
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
    """Return a move to the start of a chain: one of P proposals, chosen with probability ∝ exp remainder (SIR).

    Proposals come from the density's Gaussian factor, or from `offer`. The weights ignore the density that an offer
    draws from, so the result is a starting point, not a draw from the target.

    The result depends on the previous draw only through its context. The diagnostic `ess_<name>` is ESS / P of the
    weights. A request can replace P. With P = 1 the draw stays where it is, or moves to the single proposal of the
    offer.

    Arguments:
        name: the transition's name.
        proposals: P, which a request can replace; each proposal costs one evaluation of the remainder without gradient.
        density: returns log N(u; m, s² I) + remainder(u), given the draw and the request.
        from_root: see `Transition`.
        key: the key of the noise for proposals and choice; the name by default.
        offer: makes the proposals; None for the Gaussian factor.

    The transition raises `ConfigError` when it moves a draw, if proposals need a Gaussian factor and the density has
    none.
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
    """Return an offer that draws from the density's Gaussian factor. Raises `ConfigError` if it has none."""
    factor = density.factor()
    if factor is None:
        raise ConfigError(
            f"{name}: proposals need a density with a Gaussian factor, and {type(density).__name__} has none; "
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
        after: the name of one of them, "root" for none, or None for all.

    Raises `ConfigError` for an unknown name.
    """
    names = [transition.name for transition in listed]
    if after is not None and after not in (ROOT, *names):
        known = ", ".join(map(repr, (ROOT, *names)))
        raise ConfigError(f"after: this prior has no transition {after!r}; it has {known}")
    return listed if after is None else listed[: names.index(after) + 1 if after != ROOT else 0]


def path_to(listed: tuple[Transition, ...], after: str | None = None) -> tuple[Transition, ...]:
    """Return the transitions that a draw runs: from the last one that starts at the root, up to `after`.

    See `up_to` for the arguments.
    """
    needed = up_to(listed, after)
    first = max((i for i, transition in enumerate(needed) if transition.from_root), default=0)
    return needed[first:]


def require_start(listed: tuple[Transition, ...], asked: int | None, key: str = "start_proposals") -> None:
    """Raise `ConfigError` if a number of start proposals is requested but no transition uses start proposals.

    Arguments:
        listed: all transitions of a prior.
        asked: `Request.start_proposals`.
        key: the option's name, for the error.
    """
    if asked is not None and not any(transition.start_proposals for transition in listed):
        raise ConfigError(
            f"{key}: the chains of this prior do not choose among start proposals; leave it out, or set "
            "prior.start_proposals above 1 where the prior has this key"
        )
