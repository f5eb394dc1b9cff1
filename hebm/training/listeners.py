"""Who follows training while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hebm.interfaces import Backbone, PriorLearner


class Listener:
    """Follows training on the main process. Every method does nothing: override those that you need.

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

    def said(self, message: str) -> None:
        """Pass the message on to all."""
        for listener in self.listeners:
            listener.said(message)

    def ended(self) -> None:
        """Tell all that training is over."""
        for listener in self.listeners:
            listener.ended()
