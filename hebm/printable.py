r"""Make text from outside (file names, docstrings, values of configurations) safe for terminals, pages and plots.

Such text may contain characters that move the cursor, set colours, or reverse the direction of text. They are spelled
out, as in `\x1b` or `\u202e`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast

LINES = "\n\t"
"""Characters to keep in text of several lines."""

_COLOURS = {"error:": "1;31", "Error:": "1;31", "note:": "33"}
_BEST = re.compile(r"[−-]?\d\S*(?: ± \d\S*)?(?: %)?\*(?=\s|$)")
_BOLD = "1"


def printable(text: str, keep: str = "") -> str:
    r"""Return text with control characters, direction marks and lone surrogates spelled out.

    Arguments:
        text: the text.
        keep: characters that are not spelled out, such as `LINES`.

    Example:
        >>> printable("class \x1b[31m")
        'class \\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


class PrintableStream:
    r"""A text stream that spells out unprintable characters.

    It keeps newlines, tabs, and a carriage return at the start of a text, which progress bars use to redraw themselves.
    Characters that the stream's encoding lacks are spelled out, too.

    On a terminal, a first word `error:` or `note:` is coloured and the starred numbers of a table are bold, unless the
    environment variable `NO_COLOR` is set.

    Arguments:
        stream: the stream to write to, such as `sys.stdout`.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.coloured = stream.isatty() and _wants_colour()

    @property
    def encoding(self) -> str:
        """Return "utf-8": the stream accepts every character, since it spells out those that cannot be encoded."""
        return "utf-8"

    def write(self, text: str) -> int:
        """Write text and return its length."""
        again = "\r" if text.startswith("\r") else ""
        fit = again + printable(text.removeprefix("\r"), LINES)
        encoding = self.stream.encoding or "utf-8"
        fit = fit.encode(encoding, "backslashreplace").decode(encoding)
        self.stream.write(_highlighted(fit) if self.coloured else fit)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each text, spelled out."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _wants_colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and os.name != "nt"


def _highlighted(text: str) -> str:
    """Return text with a first word in its colour, or with starred numbers in bold."""
    for word, colour in _COLOURS.items():
        if text.startswith(word):
            return _in(colour, word) + text.removeprefix(word)
    return _BEST.sub(lambda number: _in(_BOLD, number[0]), text)


def _in(style: str, text: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m"


def print_plain() -> None:
    """Use no colours in what this process prints from now on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, PrintableStream):
            stream.coloured = False


def print_escaped() -> None:
    """Spell out unprintable characters in everything that this process prints from now on."""
    os.environ.setdefault("PYTHON_COLORS", "0")  # Python 3.13 colours tracebacks by control characters
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, PrintableStream):
            setattr(sys, name, cast(TextIO, PrintableStream(stream)))
