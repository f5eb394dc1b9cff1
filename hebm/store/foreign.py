"""Read and write `.pt` files of other codes: the only place where a pickle is read or written.

A file is read with `weights_only=True`: tensors, plain containers, and the few harmless classes that its format names.
Anything else that a pickle asks for, such as a call, is refused before it happens.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from hebm.errors import CheckpointError
from hebm.store.durable import discard, hold, reporting, sync_folder, temporary_for

_DAMAGE: tuple[type[Exception], ...] = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)
_DAMAGE = (*_DAMAGE, AssertionError, ArithmeticError, MemoryError, ImportError, OSError, struct.error)
_DAMAGE = (*_DAMAGE, zipfile.BadZipFile)
"""What reading an arbitrary file as a checkpoint may raise, but for the unpickler's own unsupported."""


def load(path: Path, allowed: tuple[type, ...]) -> Any:
    """Load the content of a `.pt` file, its tensors on the CPU.

    Arguments:
        path: the file.
        allowed: classes besides tensors and plain containers that it may hold.

    Raises `CheckpointError` for a file that is missing or damaged, is not a checkpoint, or holds anything else.
    """
    with reporting(f"read {path}"), open(path, "rb"):
        pass
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_not_opened(path, allowed, error)) from error
    except _DAMAGE as error:
        cause = _cause(str(error).strip().partition("\n")[0]) or type(error).__name__
        fix = "a truncated download is the usual reason: compare its size, and fetch it again"
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged ({cause}); {fix}") from error


def _not_opened(path: Path, allowed: tuple[type, ...], error: pickle.UnpicklingError) -> str:
    names = "".join(f" and {kind.__module__}.{kind.__qualname__}" for kind in allowed)
    cause = next((line for line in str(error).splitlines() if "GLOBAL" in line or "nsupported" in line), str(error))
    return (
        f"{path} was not opened: it is not a checkpoint of this format, or asks to run code "
        f"({_cause(cause)[:200]}); tensors, plain containers{names} are allowed. Nothing of it was run; "
        "download the file again from where it was published"
    )


def _cause(message: str) -> str:
    """Return torch's message without its advice, which is to open the file in a way that runs its content."""
    for advice in (" Please use ", " In PyTorch 2.6", " Re-running "):
        message = message.partition(advice)[0]
    return message.strip().removesuffix(".")


def save(content: Any, path: Path) -> None:
    """Write a `.pt` file that other code reads; durable, and whole or not there.

    Raises `CheckpointError` if there is one already, or it cannot be written.
    """
    with reporting(f"write {path}"):
        if os.path.lexists(path):
            raise CheckpointError(f"{path} exists already; give another name, or remove it first")
        temporary = temporary_for(path)
        try:
            with open(temporary, "xb") as file:
                hold(file.fileno())
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            discard(temporary)
            if isinstance(error, OSError):
                raise
            raise CheckpointError(f"cannot write {path}: {error}; is the disk full?") from error
        sync_folder(path.parent)
