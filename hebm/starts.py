"""Where the chains of a prior start: at the root's draw, at a draw of another prior, or at the best of several draws.

A start changes what a chain of finite length draws, not the density that it leaves invariant.
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
    """List the move to where a chain of this prior starts; nothing if it starts at the draw that it is given.

    Arguments:
        prior: whose chain it is; `prior.start` gives the draws, the density's Gaussian factor where it is None.
        backbone: gives T.
        density: of the chain.
        proposals: P; above 1 the chain starts at one of P draws, chosen by exp f.
        name: of the transition.
        from_root: see `Transition`.
        key: of its noise; by default the name.
    """
    if prior.start is None and proposals == 1:
        return ()
    offer = None if prior.start is None else draws_of(prior.start, backbone)
    return (best_of(name, proposals, density, from_root, key, offer),)


def draws_of(prior: PriorLearner, backbone: Backbone) -> Offer:
    """Return an offer of draws of a prior, in the context, with the labels and fixed coordinates that are asked for.

    What a request says of chains (steps, observers, starts) is meant for those that follow, and not passed on.
    """

    def offer(at: Draw, request: Request, count: int, noise: Noise) -> Tensor:
        own = Request(labels=request.labels, context=at.context, fixed=request.fixed)
        draw = prior.sample(backbone, len(at.u) * count, noise.derive("draws").grouped(count), own.repeated(count))
        return draw.u.view(len(at.u), count, -1)

    return offer
