"""What chains did: every step's figures, and their states now and then, level by level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.evaluate.evaluation import Evaluation, evaluating
from hebm.evaluate.references import to_pixels
from hebm.interfaces import Draw, Info, Request
from hebm.sampling import Observer
from hebm_plugins.analyses.drawing import images_of

DIRECTIONS = 8


@attrs.frozen
class Lengths:
    """Chains that a draw runs one after another.

    Arguments:
        levels: how many; 0 for a prior that runs none.
        steps: of each.
    """

    levels: int
    steps: int


@attrs.frozen(eq=False)
class Level:
    """One chain of every draw.

    Arguments:
        values: log density at each step up to a constant, `(N, M)`, M chains.
        grad_norms: of its gradient, `(N, M)`.
        projections: u on fixed random unit directions, `(N, M, Q)`.
        states: (steps done, u `(rows, D)`) of the first rows, the start included.
        context: of the first rows, held along the chain, or None.
    """

    values: Tensor
    grad_norms: Tensor
    projections: Tensor
    states: list[tuple[int, Tensor]]
    context: Tensor | None = None


def lengths(evaluation: Evaluation) -> Lengths:
    """How many chains a draw runs, and how long they are, found by counting."""
    levels, total = (_count(evaluation, steps) for steps in (1, evaluation.settings.chain_steps))
    return Lengths(levels, total // levels if levels else 0)


def chooses(evaluation: Evaluation) -> bool:
    """Whether a draw is chosen among several by weight: then no chain is the draw's own."""
    with evaluating(evaluation.backbone, evaluation.prior):
        return bool(
            evaluation.prior.sample(evaluation.generator, 2, evaluation.noise("prior"), Request(steps=1)).figures
        )


def _count(evaluation: Evaluation, steps: int | None) -> int:
    seen = 0

    def count(step: int, state: Any, info: Info) -> None:
        nonlocal seen
        seen += 1

    _sample(evaluation, 2, 0, steps, count)
    return seen


def _sample(evaluation: Evaluation, n: int, start: int, steps: int | None, observe: Observer | None) -> Draw:
    with evaluating(evaluation.backbone, evaluation.prior):
        noise = evaluation.noise("prior", start)
        return evaluation.prior.sample(evaluation.generator, n, noise, Request(steps=steps, observe=observe))


def record(evaluation: Evaluation, shape: Lengths, n: int, every: int, rows: int) -> list[Level]:
    """The chains of the first n draws, each of `shape.steps` steps.

    Arguments:
        evaluation: has the prior.
        shape: how many chains, and how long to run each.
        n: how many draws.
        every: after how many steps a state is kept.
        rows: of how many draws.
    """
    start = _sample(evaluation, n, 0, 0, None)
    directions = evaluation.noise("chain-directions").normal(DIRECTIONS, start.u.shape[1])
    watch = _Watch(directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True), shape.steps, every, rows)
    _sample(evaluation, n, 0, shape.steps, watch)
    return watch.levels(start.rows(slice(rows)))


class _Watch:
    """An observer of every step; it counts its calls, and `steps` of them are a level."""

    def __init__(self, directions: Tensor, steps: int, every: int, rows: int) -> None:
        self.directions, self.steps, self.every, self.rows, self.seen = directions, steps, every, rows, 0
        self.figures: list[tuple[Tensor, Tensor, Tensor]] = []
        self.states: list[tuple[int, Tensor]] = []

    def __call__(self, step: int, state: Any, info: Info) -> None:
        """Keep this step's figures, and perhaps a few states."""
        norm = torch.linalg.vector_norm(info.grad, dim=1)
        self.figures.append((info.value.cpu(), norm.cpu(), (state[0] @ self.directions.T).cpu()))
        self.seen += 1
        if (self.seen - 1) % self.steps % self.every == self.every - 1 or self.seen % self.steps == 0:
            self.states.append((self.seen, state[0][: self.rows].clone()))

    def levels(self, first_rows: Draw) -> list[Level]:
        """Cut where a level ends; the next one starts from there."""
        found, start = [], first_rows.u
        for first in range(0, self.seen, self.steps):
            values, norms, projections = zip(*self.figures[first : first + self.steps], strict=True)
            mine = [(k - first, u) for k, u in self.states if first < k <= first + self.steps]
            states = [(0, start), *mine]
            figures = (torch.stack(part) for part in (values, norms, projections))
            found.append(Level(*figures, states, first_rows.context))
            start = mine[-1][1]
        return found


def features_along(evaluation: Evaluation, shape: Lengths, n: int, every: int) -> Mapping[int, Tensor | None]:
    """Features `(n, F)` of the last level's states by the steps done, the start included.

    None where an image is not finite: nothing is measured of the rest.

    Arguments:
        evaluation: has prior, decoder and extractor.
        shape: as of `record`.
        n: how many draws.
        every: after how many steps.
    """
    look = _Features(evaluation, (shape.levels - 1) * shape.steps, every, shape.steps)
    for start in range(0, n, evaluation.settings.rows):
        rows = min(evaluation.settings.rows, n - start)
        look.restart(_sample(evaluation, rows, start, 0, None))
        _sample(evaluation, rows, start, shape.steps, look)
    return {k: None if k in look.broken else torch.cat(parts) for k, parts in look.found.items()}


class _Features:
    """An observer that keeps features of the last level's states.

    Arguments:
        evaluation: has decoder and extractor.
        before: steps of the levels before.
        every, length: of the last level's steps, after which to look.
    """

    def __init__(self, evaluation: Evaluation, before: int, every: int, length: int) -> None:
        self.evaluation, self.before, self.every, self.length = evaluation, before, every, length
        self.extractor, self.seen = evaluation.extractor(), 0
        self.found: dict[int, list[Tensor]] = {}
        self.broken: set[int] = set()
        self.context: Tensor | None = None

    def restart(self, start: Draw) -> None:
        """Chains start here, which is the last level's start if it is the only one; their contexts stay."""
        self.seen, self.context = 0, start.context
        if self.before == 0:
            self._look(0, start.u)

    def __call__(self, step: int, state: Any, info: Info) -> None:
        """Look at this state, perhaps."""
        self.seen += 1
        done = self.seen - self.before
        if done >= 0 and (done % self.every == 0 or done == self.length):
            self._look(done, state[0])

    def _look(self, done: int, u: Tensor) -> None:
        images = images_of(self.evaluation, Draw(u, self.context))
        if not bool(images.isfinite().all()):
            self.broken.add(done)
        self.found.setdefault(done, []).append(self.extractor(to_pixels(images.nan_to_num()))["features"].cpu())
