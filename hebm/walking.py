"""The walk from a root along the transitions of a prior.

With a `Population` of P > 1, each sample has P particles (sequential Monte Carlo, `hebm.particles`). Before each
transition moves them, its `ratio` weights them, and samples with a small effective sample size are resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor

from hebm.backbone import Backbone
from hebm.draws import Draw, Observer, Request
from hebm.errors import ConfigError
from hebm.noise import Noise
from hebm.particles import Particles
from hebm.samplers import Info
from hebm.tilts import Tilt
from hebm.transitions import ROOT, Transition, path_to

if TYPE_CHECKING:
    from hebm.interfaces import PriorLearner


@attrs.frozen
class Population:
    """The particles of each sample.

    If P > 1, the root draw of a sample is that of its first particle. A draw without any transition uses one particle.

    Arguments:
        count: P.
        threshold: ESS / P below which particles are resampled; 1 always resamples.
    """

    count: int = 1
    threshold: float = 0.5


@torch.no_grad()
def walk(
    prior: PriorLearner,
    backbone: Backbone,
    n: int,
    noise: Noise,
    request: Request = Request(),
    path: tuple[Transition, ...] | None = None,
) -> Iterator[tuple[str, Draw]]:
    """Yield the root's draw and the draw after each transition, as pairs of name and draw.

    Fixed coordinates of the yielded draws have their given values. A transition may move them internally: a diffusion
    prior adds the noise of a level.

    Arguments:
        prior: the prior whose transitions are applied.
        backbone: gives T.
        n: number of samples.
        noise: row i belongs to the sample with global index i.
        request: settings of the draws.
        path: transitions to apply, in place of those up to `request.after`.
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
    """Return the root that a prior tilts; a root returns itself."""
    return prior if prior.root is None else prior.root


def _root_draw(prior: PriorLearner, backbone: Backbone, n: int, noise: Noise, request: Request) -> Draw:
    return root_of(prior).sample(backbone, n, noise, attrs.evolve(request, fixed=None, after=None, observe=None))


def _weighted(
    prior: PriorLearner, path: tuple[Transition, ...], backbone: Backbone, n: int, noise: Noise, request: Request
) -> Iterator[tuple[str, Draw]]:
    """Walk with P particles of each sample: w_j ← w_j r_s(u_j), resample, move. Yield one particle drawn by weight.

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
    """Return log p_after − log p_before of each row, `(n,)`."""
    ratio = _require_ratio(transition)(request.labels)
    return ratio.at(backbone, backbone.latents(at.u, at.context)).sum(1)


def _require_ratio(transition: Transition) -> Callable[[Tensor | None], Tilt]:
    if transition.ratio is None or transition.from_root:
        raise ConfigError(
            f"prior.population: a transition's ratio weights its particles, and {transition.name!r} "
            f"{'starts from the root' if transition.from_root else 'has no ratio'}; draw with one particle per sample"
        )
    return transition.ratio


def _first_of(observe: Observer | None, count: int) -> Observer | None:
    """Return an observer of the first particle of each sample."""
    if observe is None:
        return None

    def first(name: str, step: int, state: Any, info: Info) -> None:
        few = Info._make(None if part is None else part[::count] for part in info)
        observe(name, step, (state[0][::count],), few)

    return first
