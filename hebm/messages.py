"""Print notes, progress and errors on the error stream, as `--quiet` and `--verbose` say, and keep them in log files.

Commands call `note`, `progress` and `error`. What is logged to the loggers of hebm and of its plugins is printed in the
same way while `shown_logs` is open.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from typing_extensions import override

from hebm.printable import LINES, printable


class _State:
    """What the options of this process's command ask for."""

    def __init__(self) -> None:
        self.quiet = self.verbose = False
        self.files: list[logging.Handler] = []


_state = _State()


def is_quiet() -> bool:
    """Return whether progress and notes are hidden."""
    return _state.quiet


def is_verbose() -> bool:
    """Return whether debug messages and tracebacks are printed."""
    return _state.verbose


def be_quiet() -> None:
    """Hide progress and notes from now on."""
    _state.quiet = True


def be_verbose() -> None:
    """Print debug messages, and the traceback of every error, from now on."""
    _state.verbose = True


def keep_in(path: str | os.PathLike[str]) -> None:
    """Append everything to a file from now on, hidden messages included. Raises `OSError` if it cannot be opened."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_Escaped("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _state.files.append(handler)


def reset() -> None:
    """Print and keep what a new process does."""
    global _state
    for handler in _state.files:
        handler.close()
    _state = _State()


class _Escaped(logging.Formatter):
    """Spells out control characters, as on a terminal."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), LINES)


# ---------------------------------------------------------------- what commands say


def note(message: str) -> None:
    """Print `note: MESSAGE`, unless notes are hidden."""
    if not _state.quiet:
        _print(f"note: {message}")
    _keep("NOTE", message)


def progress(line: str, shown: bool = True) -> None:
    """Print a line about how far something is, unless progress is hidden.

    Arguments:
        line: what to print.
        shown: False to keep it in log files alone.
    """
    if shown and not _state.quiet:
        _print(line)
    _keep("PROGRESS", line)


def error(message: str, cause: BaseException | None = None) -> None:
    """Print `error: MESSAGE`; with `--verbose`, the traceback of its cause before it."""
    if _state.verbose and cause is not None:
        _print("".join(traceback.format_exception(cause)).rstrip())
    _print(f"error: {message}")
    keep_error(message, cause)


def keep_error(message: str, cause: BaseException | None = None) -> None:
    """Write an error that is printed elsewhere, with its traceback, to the log files."""
    _keep("ERROR", message, cause=cause)


def _print(line: str) -> None:
    with suppress(OSError):  # the terminal or the pipe is gone: training goes on, or saves and stops, without words
        print(line, file=sys.stderr, flush=True)


def _keep(level: str, message: str, name: str = "hebm", cause: BaseException | None = None) -> None:
    if not _state.files or (os.environ.get("RANK", "0") != "0" and level != "ERROR"):
        return
    about = None if cause is None else (type(cause), cause, cause.__traceback__)
    record = logging.makeLogRecord({"name": name, "levelname": level, "msg": message, "exc_info": about})
    for handler in _state.files:
        handler.handle(record)


# ---------------------------------------------------------------- what is logged


class _Shows(logging.Handler):
    """Prints warnings as notes, and with `--verbose` everything; log files get every record."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        for handler in _state.files:
            handler.handle(record)
        message = record.getMessage()
        if record.levelno >= logging.ERROR:
            _print(f"error: {message}")
        elif _state.quiet or os.environ.get("RANK", "0") != "0":
            return
        elif record.levelno >= logging.WARNING:
            _print(f"note: {message}")
        elif _state.verbose:
            _print(f"{record.levelname.lower()}: {record.name}: {message}")


@contextmanager
def shown_logs(packages: Iterable[str]) -> Iterator[None]:
    """Print what loggers of these packages log, and keep it in the log files.

    Arguments:
        packages: names of loggers. Their level is DEBUG meanwhile, so that files have everything.
    """
    loggers = [logging.getLogger(name) for name in set(packages)]
    levels = [logger.level for logger in loggers]
    handler = _Shows()
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
