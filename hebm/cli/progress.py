"""Show the progress of training: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from hebm.errors import NonFiniteError
from hebm.interfaces import Backbone, PriorLearner
from hebm.model import Model


class Progress:
    """Listens to training.

    Arguments:
        samples: folder for grids drawn during training.
        track: given each line of metrics, for trackers.
        quiet: say nothing but warnings.
    """

    def __init__(self, samples: Path, track: Callable[[Mapping[str, Any]], None], quiet: bool = False) -> None:
        self.samples, self.track, self.quiet = samples, track, quiet
        self.bar: tqdm[None] | None = None
        self.steps = self.tenth = 0

    def started(self, phase: str, step: int, steps: int) -> None:
        """Open a bar on a terminal, say a line elsewhere."""
        self.close()
        self.steps, self.tenth = steps, step * 10 // max(steps, 1)
        if not self.quiet and sys.stderr.isatty():
            self.bar = tqdm(total=steps, initial=step, desc=phase, unit="step", dynamic_ncols=True)
        elif not self.quiet:
            click.echo(f"{phase}: step {step} of {steps}", err=True)

    def stepped(self, loss: float | None) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update()
            if loss is not None:
                self.bar.set_postfix(loss=f"{loss:.4g}")

    def logged(self, record: Mapping[str, Any]) -> None:
        """Give the line to trackers; without a bar, print about ten lines a phase."""
        self.track(record)
        step = record["step"]
        tenth, before = step * 10 // self.steps, self.tenth
        self.tenth = tenth
        if self.bar is None and not self.quiet and tenth > before:
            eta = (self.steps - step) / max(record["steps_per_second"], 1e-9)
            rate = f"{record['steps_per_second']:.3g} steps/s, {eta:.0f} s left"
            click.echo(f"{record['phase']} {step}/{self.steps} loss {record['loss']:.4g} ({rate})", err=True)

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Save a grid of 64 samples; if their chains diverge, say so and train on."""
        from hebm.report.grids import save_grid  # matplotlib waits until a grid is asked for

        try:
            images = Model(backbone, prior).sample(64)
        except NonFiniteError as error:
            self.said(f"no grid at step {total_step}: {error}")
            return
        save_grid(images.to("cpu", torch.float32), self.samples / f"step-{total_step:08d}.png", 8)

    def said(self, message: str) -> None:
        """Print a warning on the terminal's error stream."""
        click.echo(f"note: {message}", err=True)

    def close(self) -> None:
        """Put the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
