"""Read and write files of other code. No other module reads or writes pickles.

Files of `torch.save` are read with `weights_only=True`: tensors, plain containers, and the few harmless classes that
the format allows. Paths, NumPy values, devices and dtypes become plain values (`hebm.store.stand_ins`). Any other
request of a pickle, such as a call, raises an error before it runs.
"""

from __future__ import annotations

import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hebm.errors import CheckpointError
from hebm.store.durable import discard, hold, open_file, reporting, sync_folder, temporary_for
from hebm.store.pickled_names import asked_for, in_words
from hebm.store.stand_ins import STAND_INS, plain
from hebm.store.torch_archives import require_whole

_DAMAGE: tuple[type[Exception], ...] = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)
_DAMAGE = (*_DAMAGE, AssertionError, ArithmeticError, MemoryError, ImportError, OSError, SyntaxError, struct.error)
_DAMAGE = (*_DAMAGE, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError)
"""The errors that reading an arbitrary file as a checkpoint can raise."""

TEXT = (".json", ".jsonl", ".txt", ".log", ".csv", ".toml", ".yaml", ".yml")
"""Files with these suffixes are read as text, and not as checkpoints."""

_REPEATED, _SPARE = 4, 1 << 24
"""Tensors may claim _REPEATED times the file's size plus _SPARE bytes, since some are in a file under two names."""


def read(path: Path, allowed: tuple[type, ...], note: Callable[[str], None] = lambda _: None) -> Any:
    """Return the text of a text file, or the content that `torch.save` wrote. Arguments and errors as in `load`."""
    return _text(path) if path.suffix.lower() in TEXT else load(path, allowed, note)


def _text(path: Path) -> str:
    try:
        with reporting(f"read {path}"), open_file(path) as file:
            return file.read().decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path} is not UTF-8 text, as a file with this suffix should be (byte {error.start})"
        ) from None


def load(path: Path, allowed: tuple[type, ...], note: Callable[[str], None] = lambda _: None) -> Any:
    """Load the content of a `.pt` file, its tensors on the CPU.

    Arguments:
        path: the file.
        allowed: classes besides tensors and plain containers that it may contain.
        note: called with notes about content that was converted to plain values.

    Raises `CheckpointError` for a file that is missing or damaged, is not a checkpoint, or contains anything else.
    """
    with reporting(f"read {path}"):
        open_file(path).close()
    try:
        for line in require_whole(path):
            note(line)
        content, replaced = plain(_unpickled(path, allowed), _REPEATED * path.stat().st_size + _SPARE)
    except _DAMAGE as error:
        raise CheckpointError(_refused(path, allowed, error)) from error
    if replaced:
        note(f"read as plain values (text, numbers, tensors), which an export writes: {', '.join(replaced)}")
    return content


def _unpickled(path: Path, allowed: tuple[type, ...]) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals([*allowed, *STAND_INS]):
        warnings.simplefilter("ignore", UserWarning)  # about unknown protocols, which then raise an error
        return torch.load(path, map_location="cpu", weights_only=True)


def _refused(path: Path, allowed: tuple[type, ...], error: Exception) -> str:
    """Return the message for a rejected file, which either requests to run code or is damaged."""
    harmless = [f"{kind.__module__}.{kind.__qualname__}" for kind in (*allowed, *STAND_INS)]
    asked = asked_for(path, error, harmless)
    if asked:
        names = "".join(f" and {kind.__module__}.{kind.__qualname__}" for kind in allowed)
        return (
            f"{path} was not opened: it asks to run code ({in_words(asked)}); tensors, plain containers, paths, NumPy "
            f"values{names} are allowed. Nothing of it was run; download the file again from its source, or ask its "
            "author to save plain values"
        )
    cause = _cause(str(error)) or type(error).__name__
    fix = "a truncated download is the usual reason: compare its size, and fetch it again"
    return f"{path} is not a checkpoint, or is damaged ({cause}); {fix}"


def _cause(message: str) -> str:
    """Return the line of torch's message with the cause, without its advice to run the code in the file."""
    lines = message.strip().splitlines() or [""]
    line = next((line for line in lines if "nsupported" in line or "can only" in line.lower()), lines[0])
    for advice in (" Please use ", " In PyTorch 2.6", " Re-running "):
        line = line.partition(advice)[0]
    return line.strip().removesuffix(".")[:200]


def save(content: Any, path: Path) -> None:
    """Write a `.pt` file for other code, durably and in one step.

    Raises `CheckpointError` if the file exists, or if it cannot be written.
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
