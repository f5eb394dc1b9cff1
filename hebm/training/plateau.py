"""Detect when a loss has stopped falling."""

from __future__ import annotations

import math

import attrs


@attrs.define
class Plateau:
    """Compares the mean loss over each window of steps with the mean over the window before.

    A validation loss has no batch noise. It is compared at the end of each window instead.

    Arguments:
        window: steps in a window; 0 turns the comparison off.
        total: sum of the losses in the current window.
        count: number of losses in the current window.
        before: mean loss of the previous window; None in the first one.
        ended: whether the mean of the last complete window was at or above that of the window before.
    """

    window: int
    total: float = 0.0
    count: int = 0
    before: float | None = None
    ended: bool = False

    def reached(self, loss: float) -> bool:
        """Add the loss of a step; return True if it ends a window whose mean did not fall.

        A loss that is not finite is ignored, because its step was skipped.
        """
        if not self.window or not math.isfinite(loss):
            return False
        self.total, self.count = self.total + loss, self.count + 1
        if self.count < self.window:
            return False
        mean, self.total, self.count = self.total / self.count, 0.0, 0
        return self.closed(mean)

    def closed(self, loss: float) -> bool:
        """End a window with a loss; return True if the loss is not below that of the previous window.

        A loss that is not finite is ignored.
        """
        if not math.isfinite(loss):
            return False
        self.ended = self.before is not None and loss >= self.before
        self.before = loss
        return self.ended
