"""Who follows training while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hebm.interfaces import Backbone, PriorLearner


class Listener(Protocol):
    """Follows training on the main process: a progress bar, experiment trackers, grids of samples."""

    def started(self, phase: str, step: int, steps: int) -> None:
        """A phase starts, or resumes, at `step` of `steps`."""

    def stepped(self, loss: float | None) -> None:
        """A step was taken; `loss` is None for a step that is not logged."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """A line was appended to metrics.jsonl."""

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Samples are due; both modules hold averaged weights where the phase keeps them."""

    def said(self, message: str) -> None:
        """A message is meant for the user."""


class Silent:
    """Ignores everything: the listener of every process but the main one."""

    def started(self, phase: str, step: int, steps: int) -> None:
        """Ignore the start of a phase."""

    def stepped(self, loss: float | None) -> None:
        """Ignore that a step was taken."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """Ignore a line of metrics.jsonl."""

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Ignore that samples are due."""

    def said(self, message: str) -> None:
        """Ignore a message for the user."""
