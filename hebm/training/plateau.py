"""When a loss has stopped falling."""

from __future__ import annotations

import math

import attrs


@attrs.define
class Plateau:
    """Compares the mean loss of each `window` steps with that of the window before.

    Arguments:
        window: steps that are averaged; 0 never ends anything.
        total: sum of the losses of the present window.
        count: how many those are.
        before: mean of the window before, None at the start.
        ended: whether the end was reached.
    """

    window: int
    total: float = 0.0
    count: int = 0
    before: float | None = None
    ended: bool = False

    def reached(self, loss: float) -> bool:
        """One more step's loss; True at the end of a window whose mean is not below that of the one before.

        A loss that is not finite is left out, as its step is.
        """
        if not self.window or not math.isfinite(loss):
            return False
        self.total, self.count = self.total + loss, self.count + 1
        if self.count < self.window:
            return False
        mean, self.total, self.count = self.total / self.count, 0.0, 0
        self.ended = self.before is not None and mean >= self.before
        self.before = mean
        return self.ended
