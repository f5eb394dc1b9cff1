"""Prepare items in background processes. Waiting for them ends, with a message, whatever happens to them."""

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
"""Seconds to wait for an item."""
SHARED = Path("/dev/shm")
_AHEAD = 2
"""Items that each worker prepares before they are asked for."""


def prepared(items: Dataset[T], workers: int, seed: int, size: int, pin: bool) -> Iterator[T]:
    """Yield the items in order, prepared by background processes.

    Arguments:
        items: numbered from 0; an item travels in shared memory.
        workers: the number of processes, from 1.
        seed: of their generators.
        size: bytes of an item.
        pin: whether items are put into memory that a GPU reads directly.

    Raises:
        ConfigError: if the machine has too little shared memory.
        DataError: if a worker ends, or gives nothing for ten minutes.
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
    """Raise `ConfigError` if items of `size` bytes that workers prepare do not fit into shared memory.

    A worker that finds it full loses its item, and would be waited for in vain.
    """
    if not SHARED.is_dir():
        return
    free, needed = shutil.disk_usage(SHARED).free, size * (_AHEAD * workers + 1)
    if needed > free:
        have = f"{needed / 2**20:,.1f} MiB of shared memory, {SHARED} has {free / 2**20:,.1f} MiB"
        fix = "set data.workers = 0, a smaller data.batch_size, or give the container more (docker run --shm-size=1g)"
        raise ConfigError(f"data.workers = {workers} needs {have}; {fix}")


def _leave_signals_to_the_main_process(_: int) -> None:
    """Ignore requests to stop, which reach the whole process group: the main process must save first."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
