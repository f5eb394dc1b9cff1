"""Save checkpoints on a thread, so that training continues while they are encoded, hashed and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import attrs
import torch
from torch import Tensor

from hebm.store.checkpoints import Checkpoint


class CheckpointWriter:
    """Saves checkpoints one at a time, in the background or at once.

    An error of the background thread is raised once: by the next call of any method. So no later checkpoint is saved
    over an error that nobody has seen.

    The memory of the copies is used again by the next one, because new memory takes two to four times as long to fill.
    `reserve` provides the memory of the first copy.

    Arguments:
        write: saves a checkpoint durably.
    """

    def __init__(self, write: Callable[[Checkpoint], object]) -> None:
        self._write = write
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[object] | None = None
        self._copies: dict[str, dict[str, Tensor]] = {}

    def reserve(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Start to provide the memory of a later copy of these tensors, by file name, in the background."""
        self.wait()
        self._pending = self._thread.submit(self._reserve, tensors)

    def _reserve(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        for stem, live in tensors.items():
            self._copies[stem] = reserved(live, self._copies.get(stem, {}))

    def start(self, checkpoint: Checkpoint) -> None:
        """Copy the tensors to the CPU and start to save the copy; wait first until the checkpoint before is saved."""
        self.wait()
        self._copies = {stem: self._copies.get(stem, {}) for stem in checkpoint.tensors}  # frees the rest first
        for stem, tensors in checkpoint.tensors.items():
            self._copies[stem] = copied(tensors, self._copies[stem])
        self._pending = self._thread.submit(self._write, attrs.evolve(checkpoint, tensors=dict(self._copies)))

    def save(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint, without a copy of its tensors; return when it is on the disk."""
        self.wait()
        self._write(checkpoint)

    def check(self) -> None:
        """Raise the error of the last `start` or `reserve`, if it has failed by now. Does not wait."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk, or its memory is reserved. Raises the error if that failed."""
        if self._pending is None:
            return
        wait([self._pending])  # if a signal interrupts this, the checkpoint stays pending
        finished, self._pending = self._pending, None
        finished.result()

    @contextmanager
    def finishing(self, say: Callable[[str], None]) -> Iterator[None]:
        """Wait at the end of the context until the last checkpoint is on the disk, and free the copies.

        Arguments:
            say: called with the error of saving if the context itself ends with an error, which is then raised.
        """
        try:
            yield
        except BaseException:
            try:
                self.wait()
            except Exception as error:
                say(f"the last checkpoint was not saved: {error}")
            raise
        finally:
            self._copies.clear()
        self.wait()


def copied(tensors: Mapping[str, Tensor], memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of the tensors on the CPU.

    Arguments:
        tensors: the tensors by name.
        memory: earlier copies, which are overwritten where name, shape, type and strides are the same.
    """
    return {name: _copy(tensor.detach(), memory.get(name)) for name, tensor in tensors.items()}


def _copy(tensor: Tensor, memory: Tensor | None) -> Tensor:
    return tensor.to("cpu", copy=True) if memory is None or not _fits(memory, tensor) else memory.copy_(tensor)


def reserved(tensors: Mapping[str, Tensor], memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return memory for copies of the tensors: those in `memory` that fit, and new ones filled with 0.

    The system provides memory when it is written to, not when it is allocated.
    """
    return {
        name: memory[name]
        if name in memory and _fits(memory[name], tensor)
        else torch.empty_like(tensor.detach(), device="cpu").zero_()
        for name, tensor in tensors.items()
    }


def _fits(memory: Tensor, tensor: Tensor) -> bool:
    return _form(memory) == _form(tensor)


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.stride()
