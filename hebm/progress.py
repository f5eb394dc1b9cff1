"""Show the progress of training: a bar on a terminal and in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from hebm.errors import ConfigError
from hebm.training.listeners import Listener


class Progress(Listener):
    """Shows phase, step, loss and speed on the error stream.

    Arguments:
        quiet: show nothing but messages.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.bar: Any = None
        self.steps = self.tenth = 0

    def started(self, phase: str, step: int, steps: int) -> None:
        """Open a bar on a terminal or in a notebook, say a line elsewhere."""
        self.ended()
        self.steps, self.tenth = steps, step * 10 // max(steps, 1)
        if self.quiet:
            return
        bar = _bar_class()
        if bar is None:
            _say(f"{phase}: step {step} of {steps}")
        else:
            self.bar = bar(total=steps, initial=step, desc=phase, unit="step", dynamic_ncols=True)

    def stepped(self, loss: float | None) -> None:
        """Move the bar by one step."""
        if self.bar is not None:
            self.bar.update()
            if loss is not None:
                self.bar.set_postfix(loss=f"{loss:.4g}")

    def logged(self, record: Mapping[str, Any]) -> None:
        """Print about ten lines a phase, unless a bar is shown."""
        step = record["step"]
        tenth, before = step * 10 // max(self.steps, 1), self.tenth
        self.tenth = tenth
        if self.bar is None and not self.quiet and tenth > before:
            eta = (self.steps - step) / max(record["steps_per_second"], 1e-9)
            rate = f"{record['steps_per_second']:.3g} steps/s, {eta:.0f} s left"
            _say(f"{record['phase']} {step}/{self.steps} loss {record['loss']:.4g}{_held_out(record)} ({rate})")

    def said(self, message: str) -> None:
        """Print a message on the error stream."""
        _say(f"note: {message}")

    def ended(self) -> None:
        """Close the bar of the phase."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def listener_of(progress: bool | Listener) -> Listener:
    """Return who follows training: a bar for True, nothing but messages for False. Raises `ConfigError` for others."""
    if isinstance(progress, bool):
        return Progress(quiet=not progress)
    if isinstance(progress, Listener):
        return progress
    raise ConfigError(f"progress: expected True, False or a hebm.Listener, got {type(progress).__name__}")


def _held_out(record: Mapping[str, Any]) -> str:
    """Return the validation loss of a line of metrics.jsonl, if it has one."""
    loss = record.get("validation_loss")
    return "" if loss is None else f", validation loss {loss:.4g}"


def _bar_class() -> Any:
    """Return tqdm's bar for a notebook or a terminal; None where a moving bar cannot be shown."""
    if _in_notebook():
        if find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm as notebook_bar

            return notebook_bar
    elif not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm


def _in_notebook() -> bool:
    """Return whether this is a Jupyter kernel: its output can be moved by carriage returns or widgets."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
