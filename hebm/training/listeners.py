"""Who follows training, and long evaluation, while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hebm.interfaces import Backbone, PriorLearner


class Listener:
    """Follows training and evaluation on the main process. Every method does nothing: override those that you need.

    Example:
        class Losses(hebm.Listener):
            def logged(self, record):
                print(record["phase"], record["step"], record["loss"])

        hebm.train(experiment, "runs/demo", progress=Losses())
    """

    def started(self, phase: str, step: int, steps: int) -> None:
        """Learn that a phase starts, or resumes, at `step` of `steps`."""

    def stepped(self, loss: float | None) -> None:
        """Learn that a step was taken; `loss` is None for a step that is not logged."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """Receive a line of metrics.jsonl."""

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Draw a preview: both modules hold averaged weights where the phase keeps them."""

    def counted(self, what: str, done: int, total: int) -> None:
        """Learn that `done` of `total` images are done. The first call comes before any is computed.

        Arguments:
            what: is computed, such as "prior" for images of the learned prior.
            done: how many are done, those that were kept from an earlier evaluation included.
            total: how many images this process computes.
        """

    def said(self, message: str) -> None:
        """Receive a message for the user."""

    def ended(self) -> None:
        """Learn that training is over, was stopped, or failed."""


class Listeners(Listener):
    """Several listeners as one; each is told everything, in order.

    Arguments:
        listeners: who listens.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = tuple(listeners)

    def started(self, phase: str, step: int, steps: int) -> None:
        """Tell all that a phase starts."""
        for listener in self.listeners:
            listener.started(phase, step, steps)

    def stepped(self, loss: float | None) -> None:
        """Tell all that a step was taken."""
        for listener in self.listeners:
            listener.stepped(loss)

    def logged(self, record: Mapping[str, Any]) -> None:
        """Give the line to all."""
        for listener in self.listeners:
            listener.logged(record)

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Let all draw a preview."""
        for listener in self.listeners:
            listener.previewed(backbone, prior, total_step)

    def counted(self, what: str, done: int, total: int) -> None:
        """Tell all how many images are done."""
        for listener in self.listeners:
            listener.counted(what, done, total)

    def said(self, message: str) -> None:
        """Pass the message on to all."""
        for listener in self.listeners:
            listener.said(message)

    def ended(self) -> None:
        """Tell all that training is over."""
        for listener in self.listeners:
            listener.ended()


def counted(
    what: str, spans: Sequence[tuple[int, int]], listener: Listener, total: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yield batches one after another, and tell a listener how many images are done.

    Arguments:
        what: is computed.
        spans: first row and number of rows of each batch that is not done yet.
        listener: is told.
        total: the number of images with those that are done; None if there are none.
    """
    left = sum(rows for _, rows in spans)
    total = left if total is None else total
    listener.counted(what, total - left, total)
    for start, rows in spans:
        yield start, rows
        left -= rows
        listener.counted(what, total - left, total)
