"""Cache weights of trained networks in a folder. Damaged ones are trained again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import nn

from hebm.store.cached_tensors import read_cached, write_cached
from hebm.store.lock import waiting_lock

logger = logging.getLogger(__name__)


@contextmanager
def training_alone(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of the weights at `path`, so that of several processes one trains them and the others wait.

    Arguments:
        path: the file of the weights, in a folder of the cache. The lock is a file in the cache itself.
        busy: called once if another process holds the lock.

    If the cache cannot be written, no lock is held, since nothing will be stored.
    """
    with ExitStack() as held:
        try:
            cache = path.parent.parent
            cache.mkdir(parents=True, exist_ok=True)
            held.enter_context(waiting_lock(cache / f"{path.stem}.lock", busy))
        except OSError as error:
            logger.debug("no lock for %s: %s", path, error)
        yield


def save_weights(path: Path, net: nn.Module, notes: Mapping[str, str]) -> None:
    """Write weights with notes. If the folder cannot be written to, nothing is cached."""
    write_cached(path, net.state_dict(), notes)


def load_weights(path: Path, net: nn.Module) -> dict[str, str] | None:
    """Load weights into `net` and return their notes; None, with `net` unchanged, if they are missing or damaged."""
    found = read_cached(path)
    if found is None:
        return None
    state, notes = found
    expected = {name: tensor.shape for name, tensor in net.state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != expected:
        logger.warning("%s is damaged and is made again: its weights do not fit this network", path)
        return None
    net.load_state_dict(state)
    return notes
