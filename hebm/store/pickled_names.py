"""Find the names that a rejected `.pt` file requests to run."""

from __future__ import annotations

import difflib
import io
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

_TORCH: tuple[str, ...] = ("_codecs.encode", "builtins.set", "collections.Counter", "collections.OrderedDict")
_TORCH += ("torch.Size", "torch.device", "torch.nn.parameter.Parameter", "torch.serialization._get_layout")
_TORCH += ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.FloatStorage")
_TORCH += ("torch.LongStorage", "torch.HalfStorage", "torch.DoubleStorage", "torch.BFloat16Storage")
_TORCHS = re.compile(r"torch\.(\w*Storage|_utils\._rebuild_\w+|[a-z]+\d\w*|bool|half|float|double|int|long)")
"""Common names that torch itself reads, and a pattern for its storages, rebuild functions and types."""
_RENAMED = {"builtins.long": "builtins.int", "builtins.unicode": "builtins.str"}
"""Former names, which old pickles use."""
_PICKLES = 5
"""The maximum number of pickles in one file: the old format has a header and a pickle of sizes."""
_BLOCK = 64 << 20
"""Bytes that are searched, in memory: reading from a file would allocate any size that a pickle claims."""


def asked_for(path: Path, error: Exception, harmless: Sequence[str]) -> list[str]:
    """Return the names that a rejected file looks up and that are not harmless; none if it is only damaged.

    Arguments:
        path: the file.
        error: torch's error.
        harmless: names that may be looked up.

    A name that differs from a harmless one by a letter counts as damage.
    """
    said = re.search(r"GLOBAL (\S+)", str(error))
    found = [said[1]] if said else []
    if "nsupported operand" in str(error):  # an instruction of newer pickles, which torch does not support
        found = sorted(set(_names(path)))
    known = [*harmless, *_TORCH]
    foreign = [name for name in found if name not in known and not _TORCHS.fullmatch(name)]
    return [name for name in foreign if not difflib.get_close_matches(name, known, 1, 0.9)]


def in_words(names: Sequence[str]) -> str:
    """Return the first three names as text for a message."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(name[:100] for name in names[:3]) + more


def _names(path: Path) -> Iterator[str]:
    """Yield the names that the pickles of a file look up, as far as the file can be read."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for part in archive.namelist():
                    if part.endswith("data.pkl"):
                        yield from _looked_up(io.BytesIO(archive.open(part).read(_BLOCK)))
        else:
            with open(path, "rb") as file:
                start = io.BytesIO(file.read(_BLOCK))
            for _ in range(_PICKLES):
                yield from _looked_up(start)
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return


def _looked_up(file: IO[bytes]) -> Iterator[str]:
    """Yield the names that a pickle looks up. Newer pickles push them as strings, or get them from the memo."""
    pushed: list[str | None] = [None, None]
    memo: dict[int, str | None] = {}
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "GLOBAL":
            name = str(argument).replace(" ", ".").replace("__builtin__", "builtins")
            yield _RENAMED.get(name, name)
        elif operation.name == "STACK_GLOBAL" and None not in pushed:
            yield ".".join(map(str, pushed))
        if operation.name == "MEMOIZE":
            memo[len(memo)] = pushed[-1]
        elif operation.name in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = pushed[-1]
        elif operation.name in ("BINGET", "LONG_BINGET"):
            pushed = [pushed[-1], memo.get(int(argument or 0))]
        else:
            pushed = [pushed[-1], str(argument) if "UNICODE" in operation.name else None]
