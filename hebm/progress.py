"""Show the progress of training, evaluation and sampling: a bar on a terminal and in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from hebm import messages
from hebm.errors import ConfigError
from hebm.training.listeners import Listener

_AFTER, _EVERY = 5.0, 10.0
"""Seconds until the progress of a computation over images is shown, and between two of its lines."""


class Progress(Listener):
    """Show phase, step, loss and speed of training, and the number of images done, on the error stream.

    Arguments:
        quiet: show only messages.
        task: the first word of lines about images.
    """

    def __init__(self, quiet: bool = False, task: str = "evaluate") -> None:
        self.quiet, self.task = quiet or messages.is_quiet(), task
        self.bar: Any = None
        self._count: _Count | None = None
        self.steps = self.tenth = 0

    def started(self, phase: str, step: int, steps: int) -> None:
        """Open a bar on a terminal or in a notebook; print a line elsewhere."""
        self.ended()
        self.steps, self.tenth = steps, step * 10 // max(steps, 1)
        bar = None if self.quiet else _bar_class()
        messages.progress(f"{phase}: step {step} of {steps}", shown=bar is None and not self.quiet)
        if bar is not None:
            self.bar = bar(total=steps, initial=step, desc=phase, unit="step", dynamic_ncols=True)

    def stepped(self, loss: float | None) -> None:
        """Move the bar by one step."""
        if self.bar is not None:
            self.bar.update()
            if loss is not None:
                self.bar.set_postfix(loss=f"{loss:.4g}")

    def logged(self, record: Mapping[str, Any]) -> None:
        """Print about ten lines per phase, unless a bar is shown."""
        step = record["step"]
        tenth, before = step * 10 // max(self.steps, 1), self.tenth
        self.tenth = tenth
        if tenth > before:
            eta = (self.steps - step) / max(record["steps_per_second"], 1e-9)
            rate = f"{record['steps_per_second']:.3g} steps/s, {eta:.0f} s left"
            line = f"{record['phase']} {step}/{self.steps} loss {record['loss']:.4g}{_held_out(record)} ({rate})"
            messages.progress(line, shown=self.bar is None and not self.quiet)

    def counted(self, what: str, done: int, total: int) -> None:
        """Show the number of images done, if the computation takes more than a few seconds."""
        title = f"{self.task}: {what}"
        if self._count is None or self._count.title != title or done <= self._count.done:
            self.ended()
            self._count = None if self.quiet else _Count(title, done, total)
        else:
            self._count.moved(done)
        if done >= total:
            self.ended()

    def said(self, message: str) -> None:
        """Print a message on the error stream, unless notes are hidden."""
        messages.note(message)

    def ended(self) -> None:
        """Close the bar of training or of images."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if self._count is not None:
            self._count.close()
            self._count = None


class _Count:
    """Show the number of images done in one computation.

    Arguments:
        title: the title of the computation.
        done: number of images done before.
        total: number of images.
    """

    def __init__(self, title: str, done: int, total: int) -> None:
        self.title, self.done, self.total = title, done, total
        self._before, self._started = done, time.monotonic()
        self._next = self._started + _AFTER
        bar = _bar_class()
        options: dict[str, Any] = {"unit": "image", "dynamic_ncols": True, "leave": False, "delay": _AFTER}
        self._bar = bar(total=total, initial=done, desc=title, **options) if bar is not None and done < total else None

    def moved(self, done: int) -> None:
        """Move the bar, or print a line if enough time has passed since the last one."""
        if self._bar is not None:
            self._bar.update(done - self.done)
        self.done, now = done, time.monotonic()
        if self._bar is None and now >= self._next and done < self.total:
            self._next = now + _EVERY
            rate = (done - self._before) / (now - self._started)
            left = (self.total - done) / rate
            messages.progress(f"{self.title} {done:,}/{self.total:,} images ({rate:.3g} images/s, {left:.0f} s left)")

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()


def listener_of(progress: bool | Listener) -> Listener:
    """Return the listener for `progress`: True shows a bar, False shows only messages.

    Raises `ConfigError` for anything else.
    """
    if isinstance(progress, bool):
        return Progress(quiet=not progress)
    if isinstance(progress, Listener):
        return progress
    raise ConfigError(f"progress: expected True, False or a hebm.Listener, got {type(progress).__name__}")


def _held_out(record: Mapping[str, Any]) -> str:
    """Return the text about the validation loss of a line of metrics.jsonl, or ""."""
    loss = record.get("validation_loss")
    return "" if loss is None else f", validation loss {loss:.4g}"


def _bar_class() -> Any:
    """Return tqdm's bar for a notebook or a terminal; None if no bar can be shown."""
    if _in_notebook():
        if find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm as notebook_bar

            return notebook_bar
    elif not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm


def _in_notebook() -> bool:
    """Return whether this is a Jupyter kernel, which can show a moving bar."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
