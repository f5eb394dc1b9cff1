"""Prepare items in background processes. If a process dies or hangs, waiting for it ends with an error."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from hebm.errors import ConfigError, DataError
from hebm.stopping import STOPPING

T = TypeVar("T")
PATIENCE = 600.0
"""Longest time to wait for an item, in seconds."""
SHARED = Path("/dev/shm")
_AHEAD = 2
"""Number of items that each worker prepares in advance."""


def prepared(items: Dataset[T], workers: int, seed: int, size: int, pin: bool) -> Iterator[T]:
    """Yield the items in order, prepared by background processes.

    Arguments:
        items: the items, numbered from 0, which are passed through shared memory.
        workers: number of processes, at least 1.
        seed: seed of their generators.
        size: size of an item in bytes.
        pin: whether to put items into pinned memory, which a GPU reads directly.

    Raises:
        ConfigError: if the machine has too little shared memory.
        DataError: if a worker dies, or returns nothing for ten minutes.
    """
    require_shared_memory(workers, size)
    loader = DataLoader(
        items,
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),  # without one, the loader draws from the global generator
        worker_init_fn=_leave_signals_to_the_main_process,
        pin_memory=pin,
        prefetch_factor=_AHEAD,
        timeout=PATIENCE,
    )
    found = iter(loader)
    while True:
        try:
            item = next(found)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader" not in str(error):
                raise
            cause = str(error).splitlines()[0]
            fix = "it may have run out of memory: lower data.workers (0 needs no process), or data.batch_size"
            raise DataError(f"a data worker does not answer ({cause}); {fix}") from error
        yield item


def require_shared_memory(workers: int, size: int) -> None:
    """Raise `ConfigError` if the workers' items of `size` bytes do not fit into shared memory.

    A worker that finds shared memory full loses its item, and the main process would wait for it.
    """
    if not SHARED.is_dir():
        return
    free, needed = shutil.disk_usage(SHARED).free, size * (_AHEAD * workers + 1)
    if needed > free:
        have = f"{needed / 2**20:,.1f} MiB of shared memory, {SHARED} has {free / 2**20:,.1f} MiB"
        fix = "set data.workers = 0, a smaller data.batch_size, or give the container more (docker run --shm-size=1g)"
        raise ConfigError(f"data.workers = {workers} needs {have}; {fix}")


def _leave_signals_to_the_main_process(_: int) -> None:
    """Ignore signals to stop, which the whole process group receives. The main process must save first."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
