"""Choose where chains of a prior start: at the root's draw, at a draw of another prior, or at one of several draws.

The start affects draws of a chain of finite length, but not the density that the chain leaves invariant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from hebm.backbone import Backbone
from hebm.densities import LogDensity
from hebm.draws import Draw, Request
from hebm.noise import Noise
from hebm.transitions import Offer, Transition, best_of

if TYPE_CHECKING:
    from hebm.interfaces import PriorLearner


def starting(
    prior: PriorLearner,
    backbone: Backbone,
    density: Callable[[Draw, Request], LogDensity],
    proposals: int = 1,
    name: str = "start",
    from_root: bool = False,
    key: tuple[int | str, ...] | None = None,
) -> tuple[Transition, ...]:
    """List the transition to the start of a chain; () if the chain starts at the draw that it is given.

    Arguments:
        prior: the prior of the chain. Proposals are draws of `prior.start`, or of the density's Gaussian factor if it
            is None.
        backbone: gives T.
        density: returns the density of the chain.
        proposals: P; above 1 the chain starts at one of P draws, chosen with probability ∝ exp f.
        name: the transition's name.
        from_root: see `Transition`.
        key: the key of its noise; the name by default.
    """
    if prior.start is None and proposals == 1:
        return ()
    offer = None if prior.start is None else draws_of(prior.start, backbone)
    return (best_of(name, proposals, density, from_root, key, offer),)


def draws_of(prior: PriorLearner, backbone: Backbone) -> Offer:
    """Return an offer that draws from a prior, with the context, labels and fixed coordinates of the request.

    Settings of chains in the request (steps, observers, starts) apply to the later chains and are not passed on.
    """

    def offer(at: Draw, request: Request, count: int, noise: Noise) -> Tensor:
        own = Request(labels=request.labels, context=at.context, fixed=request.fixed)
        draw = prior.sample(backbone, len(at.u) * count, noise.derive("draws").grouped(count), own.repeated(count))
        return draw.u.view(len(at.u), count, -1)

    return offer
