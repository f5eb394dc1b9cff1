"""The state that all phases of a run share: processes, noise, counts and the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from hebm.noise import Noise
from hebm.placement import floating_type
from hebm.store.checkpoint_writer import CheckpointWriter
from hebm.store.checkpoints import Checkpoint, save
from hebm.store.metrics import MetricsLog
from hebm.training.guard import Guard
from hebm.training.job import TrainingJob
from hebm.training.listeners import Listener
from hebm.training.saved_state import Format, SavedState
from hebm.training.step_metrics import is_count


class Stopped(Exception):
    """Training was stopped by a signal after saving a checkpoint. `signal` is the signal's number."""

    def __init__(self, signal: int, total_step: int) -> None:
        super().__init__(f"stopped by signal {signal}, saved at step {total_step}; start the run again to continue")
        self.signal = signal


class RunState:
    """The state that all phases of a run share.

    Arguments:
        job: the training job.
        accelerator: devices, processes and precision.
        listener: a listener that follows training on the main process.
        stop: returns the number of a signal to stop, or 0.

    Attributes:
        memory_format: the format in which the run trains its backbone; None before the first phase that does.
    """

    def __init__(self, job: TrainingJob, accelerator: Accelerator, listener: Listener, stop: Callable[[], int]) -> None:
        self.job, self.accelerator, self.main = job, accelerator, accelerator.is_main_process
        self.listener: Listener = listener if self.main else Listener()
        dtype = floating_type(job.model.backbone)
        self.noise = Noise(job.seed, "train", device=accelerator.device, dtype=dtype)
        self.guard, self.log = Guard(job.settings.max_skipped), MetricsLog(job.folder.metrics_log)
        self.writer = CheckpointWriter(self._write)
        self._stop, self._counts = stop, dict[str, Tensor]()
        self.memory_format: Format | None = None
        self._seconds, self._since = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of wall time spent on training so far; steps lost between a checkpoint and a kill do not count."""
        return self._seconds + time.monotonic() - self._since

    @property
    def first_row(self) -> int:
        """This process's first row in each batch."""
        rows = self.job.batches.recipe.batch_size
        return int(self.accelerator.process_index * rows // self.accelerator.num_processes)

    # ------------------------------------------------------------ over all processes

    def mean(self, value: Tensor) -> float:
        """Return the mean of a scalar over processes."""
        return float(self.accelerator.reduce(value.detach(), "mean"))

    def everywhere(self, condition: Tensor) -> bool:
        """Return whether a condition (a bool) holds on every process."""
        if self.accelerator.num_processes == 1:
            return bool(condition)
        holding = self.accelerator.reduce(condition.to(torch.float32), "sum")
        return bool(holding >= self.accelerator.num_processes)

    def stop_signal(self) -> int:
        """Return the number of the signal to stop, the same on every process, or 0 without a signal."""
        signal = self._stop()
        if self.accelerator.num_processes == 1:
            return signal
        signals = torch.tensor(float(signal), device=self.accelerator.device)
        return int(self.accelerator.gather(signals).max())

    # ------------------------------------------------------------ counts, log, saved state

    def without_counts(self, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add the counts among a step's metrics to the totals of earlier steps, and return the other metrics."""
        for name, value in metrics.items():
            if is_count(name):
                self._counts[name] = value.float() + self._counts.get(name, 0.0)
        return {name: value for name, value in metrics.items() if not is_count(name)}

    def counts(self) -> dict[str, float]:
        """Return the counts since the run started, summed over processes."""
        return {name: float(self.accelerator.reduce(value, "sum")) for name, value in self._counts.items()}

    def record(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        if self.main:
            self.log.append(line)
        self.listener.logged(line)

    def _write(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint and the log durably."""
        save(self.job.folder.checkpoints, checkpoint, self.job.settings.keep, self.job.run_id)
        self.log.sync()

    def saved(self) -> dict[str, Any]:
        """Return the part of this state that a checkpoint stores. Every process must call this."""
        guard = {"skipped": self.guard.skipped, "in_a_row": self.guard.in_a_row}
        chosen = {"memory_format": self.memory_format}
        return {**guard, "counts": self.counts(), "seconds": round(self.seconds, 3), **chosen}

    def load(self, saved: SavedState, total_step: int) -> None:
        """Restore the state that `saved` returned, and drop the log's lines after `total_step`."""
        self.guard.skipped, self.guard.in_a_row = saved.skipped, saved.in_a_row
        self._seconds, self.memory_format = saved.seconds, saved.memory_format
        for name, value in saved.counts.items():
            self._counts[name] = torch.tensor(value if self.main else 0.0, device=self.accelerator.device)
        self.shorten_log(total_step)

    def shorten_log(self, total_step: int) -> None:
        """Drop the lines of metrics.jsonl after a step."""
        if self.main:
            self.log.truncate_after(total_step)
