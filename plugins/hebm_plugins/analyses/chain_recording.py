"""Record chains: diagnostics of every step, and their states at regular intervals, for each transition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import PRIOR
from hebm.interfaces import Draw, Noise, Observer, Transition
from hebm.pixel_levels import to_pixels
from hebm.samplers import Info
from hebm.trained import TrainedModel, evaluating

DIRECTIONS = 8


@attrs.frozen(eq=False)
class Recorded:
    """The record of one transition's chains.

    Arguments:
        name: name of the transition.
        values: log density at each step up to a constant, `(N, M)`, for N steps of M chains.
        grad_norms: norm of its gradient, `(N, M)`; None for a sampler without gradients.
        projections: u projected on fixed random unit directions, `(N, M, Q)`.
        states: (steps done, u `(rows, D)`) of the first rows, including the start.
        context: context of the first rows, constant along the chain, or None.
    """

    name: str
    values: Tensor
    grad_norms: Tensor | None
    projections: Tensor
    states: list[tuple[int, Tensor]]
    context: Tensor | None = None


def lengthened(
    model: TrainedModel, n: int, noise: Noise, factor: int, observers: Mapping[str, Observer]
) -> Iterator[tuple[Transition, Draw]]:
    """Yield each transition of a draw and where it starts; its chain is then run `factor` times as long.

    Arguments:
        model: has the prior.
        n: number of draws.
        noise: noise of the draws.
        factor: factor of the length of every chain.
        observers: observers of the chains, by the transition's name, looked up when the chain runs.
    """
    ((_, root),) = model.walk(n, noise, path=())
    at = root
    for transition in model.path:
        at = root if transition.from_root else at
        yield transition, at
        steps = factor * model.chain_lengths[transition.name] if transition.steps else None
        asked = attrs.evolve(model.request, steps=steps, observe=observers.get(transition.name))
        with evaluating(model.backbone, model.prior):
            at = transition.move(at, noise, asked)


def record(model: TrainedModel, n: int, factor: int, every: int, rows: int) -> list[Recorded]:
    """Record the chains of the first n draws, each `factor` times as long as the model's.

    Arguments:
        model: has the prior.
        n: number of draws.
        factor: factor of the length of every chain.
        every: steps of the model's chain between stored states.
        rows: number of draws whose states are stored.
    """
    directions = model.noise("chain-directions").normal(DIRECTIONS, model.backbone.layout.dim)
    directions = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    watches: dict[str, _Watch] = {}
    for transition, at in lengthened(model, n, model.noise(PRIOR), factor, watches):
        if transition.steps:
            steps = factor * model.chain_lengths[transition.name]
            watches[transition.name] = _Watch(directions, factor * every, steps, at.rows(slice(rows)))
    return [watch.recorded(name) for name, watch in watches.items()]


class _Watch:
    """An observer of every step of one chain.

    Arguments:
        directions: directions to project u on, `(Q, D)`.
        every: steps between stored states.
        steps: number of steps of the chain; the last state is stored too.
        start: the start of the first rows.
    """

    def __init__(self, directions: Tensor, every: int, steps: int, start: Draw) -> None:
        self.directions, self.every, self.steps, self.start = directions, every, steps, start
        self.values: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.projections: list[Tensor] = []
        self.states = [(0, start.u)]

    def __call__(self, name: str, step: int, state: Any, info: Info) -> None:
        """Record the quantities of this step, and its states if they are due."""
        self.values.append(info.value.cpu())
        self.projections.append((state[0] @ self.directions.T).cpu())
        if info.grad is not None:
            self.norms.append(torch.linalg.vector_norm(info.grad, dim=1).cpu())
        if (step + 1) % self.every == 0 or step + 1 == self.steps:
            self.states.append((step + 1, state[0][: len(self.start.u)].clone()))

    def recorded(self, name: str) -> Recorded:
        """Return the record of the observed chains."""
        norms = torch.stack(self.norms) if self.norms else None
        projections = torch.stack(self.projections)
        return Recorded(name, torch.stack(self.values), norms, projections, self.states, self.start.context)


def features_along(evaluation: Evaluation, n: int, factor: int, every: int) -> Mapping[int, Tensor | None]:
    """Return features `(n, F)` of the last chain's states by number of steps, including the start.

    The value is None for a state with an image that is not finite.

    Arguments:
        evaluation: has model and extractor.
        n: number of draws.
        factor: factor of the length of every chain.
        every: steps between measured states.
    """
    model = evaluation.model
    last = next(reversed(model.chain_lengths))
    look = _Features(evaluation, every, factor * model.chain_lengths[last])
    for start, rows in evaluation.batches("chains", n):
        noise = model.noise(PRIOR, start)
        for transition, at in lengthened(model, rows, noise, factor, {last: look}):
            if transition.name == last:
                look.start(at)
    return {k: None if k in look.broken else torch.cat(parts) for k, parts in look.found.items()}


class _Features:
    """An observer that keeps features of a chain's states.

    Arguments:
        evaluation: has decoder and extractor.
        every: steps between measured states.
        length: number of steps of the chain; the last state is measured too.
    """

    def __init__(self, evaluation: Evaluation, every: int, length: int) -> None:
        self.evaluation, self.every, self.length = evaluation, every, length
        self.extractor = evaluation.extractor()
        self.found: dict[int, list[Tensor]] = {}
        self.broken: set[int] = set()
        self.context: Tensor | None = None

    def start(self, at: Draw) -> None:
        """Measure the start of the chains."""
        self.context = at.context
        self._look(0, at.u)

    def __call__(self, name: str, step: int, state: Any, info: Info) -> None:
        """Measure this state if it is due."""
        if (step + 1) % self.every == 0 or step + 1 == self.length:
            self._look(step + 1, state[0])

    def _look(self, done: int, u: Tensor) -> None:
        images = self.evaluation.model.images(Draw(u, self.context))
        if not bool(images.isfinite().all()):
            self.broken.add(done)
        self.found.setdefault(done, []).append(self.extractor(to_pixels(images.nan_to_num()))["features"].cpu())
