"""Listeners: objects that follow training and long evaluations while they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hebm.interfaces import Backbone, PriorLearner


class Listener:
    """Follows training and evaluation on the main process. Its methods do nothing; override the ones you need.

    Example:
        class Losses(hebm.Listener):
            def logged(self, record):
                print(record["phase"], record["step"], record["loss"])

        hebm.train(experiment, "runs/demo", progress=Losses())
    """

    def started(self, phase: str, step: int, steps: int) -> None:
        """Called when a phase starts or resumes at `step` of `steps`."""

    def stepped(self, loss: float | None) -> None:
        """Called after each step. `loss` is None for a step that is not logged."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """Called with each line of metrics.jsonl."""

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Called when a preview of samples is due. The modules hold averaged weights if the phase averages them."""

    def counted(self, what: str, done: int, total: int) -> None:
        """Called when `done` of `total` images are done, and once before the first one.

        Arguments:
            what: the images being computed, such as "prior" for those of the learned prior.
            done: number of images done, including images kept from an earlier evaluation.
            total: number of images that this process computes.
        """

    def said(self, message: str) -> None:
        """Called with a message for the user."""

    def ended(self) -> None:
        """Called when training has ended, was stopped, or has failed."""


class Listeners(Listener):
    """Calls several listeners in order, as if they were one.

    Arguments:
        listeners: the listeners.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = tuple(listeners)

    def started(self, phase: str, step: int, steps: int) -> None:
        """Call `started` of every listener."""
        for listener in self.listeners:
            listener.started(phase, step, steps)

    def stepped(self, loss: float | None) -> None:
        """Call `stepped` of every listener."""
        for listener in self.listeners:
            listener.stepped(loss)

    def logged(self, record: Mapping[str, Any]) -> None:
        """Call `logged` of every listener."""
        for listener in self.listeners:
            listener.logged(record)

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Call `previewed` of every listener."""
        for listener in self.listeners:
            listener.previewed(backbone, prior, total_step)

    def counted(self, what: str, done: int, total: int) -> None:
        """Call `counted` of every listener."""
        for listener in self.listeners:
            listener.counted(what, done, total)

    def said(self, message: str) -> None:
        """Call `said` of every listener."""
        for listener in self.listeners:
            listener.said(message)

    def ended(self) -> None:
        """Call `ended` of every listener."""
        for listener in self.listeners:
            listener.ended()


def counted(
    what: str, spans: Sequence[tuple[int, int]], listener: Listener, total: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yield batches one after another, and report to a listener how many images are done.

    Arguments:
        what: the images being computed, as in `Listener.counted`.
        spans: first row and number of rows of each remaining batch.
        listener: the listener to report to.
        total: number of images including finished ones; None if no image is finished.
    """
    left = sum(rows for _, rows in spans)
    total = left if total is None else total
    listener.counted(what, total - left, total)
    for start, rows in spans:
        yield start, rows
        left -= rows
        listener.counted(what, total - left, total)
