"""Find what a `.pt` file that was refused asks to run."""

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
_TORCH += ("torch.Size", "torch.device", "torch.nn.parameter.Parameter", "torch._utils._rebuild_parameter")
_TORCH += ("torch._utils._rebuild_tensor_v2", "torch.serialization._get_layout", "torch.FloatStorage")
_TORCH += ("torch.LongStorage", "torch.HalfStorage", "torch.DoubleStorage", "torch.BFloat16Storage")
"""What torch reads of itself, as far as it is common."""
_PICKLES = 5
"""Pickles that one file may consist of: older ones have a header, and one for the sizes."""
_BLOCK = 64 << 20
"""Bytes that are looked through; they are in memory, as a reader of files allocates whatever size a pickle claims."""


def asked_for(path: Path, error: Exception, harmless: Sequence[str]) -> list[str]:
    """Return the names that a refused file looks up and that are not harmless; none if it is merely damaged.

    Arguments:
        path: the file.
        error: why torch refused it.
        harmless: names that may be looked up.

    A name that is harmless but for a letter is damage.
    """
    said = re.search(r"GLOBAL (\S+)", str(error))
    found = [said[1]] if said else []
    if "nsupported operand" in str(error):  # an instruction of a newer pickle, which torch does not read
        found = sorted(set(_names(path)))
    known = [*harmless, *_TORCH]
    return [name for name in found if name not in known and not difflib.get_close_matches(name, known, 1, 0.9)]


def in_words(names: Sequence[str]) -> str:
    """List names for a message, the first three of them."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(name[:100] for name in names[:3]) + more


def _names(path: Path) -> Iterator[str]:
    """Yield the names that the pickles of a file look up, as far as it can be read."""
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
    texts: list[str] = []
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "GLOBAL":
            yield str(argument).replace(" ", ".").replace("__builtin__", "builtins")
        elif operation.name == "STACK_GLOBAL" and len(texts) > 1:
            yield ".".join(texts[-2:])
        elif "UNICODE" in operation.name:
            texts = [*texts[-1:], str(argument)]
