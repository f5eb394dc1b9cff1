"""Print notes, progress and errors to the error stream, and write them to log files.

The options `--quiet`, `--verbose` and `--log-file` set what is printed and where it is logged. Commands call `note`,
`progress` and `error`. Inside `shown_logs`, records of Python's `logging` are handled in the same way.
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
    """The options of the command of this process."""

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
    """Hide progress and notes of this process."""
    _state.quiet = True


def be_verbose() -> None:
    """Print debug messages, and the traceback of every error."""
    _state.verbose = True


def log_to_file(path: str | os.PathLike[str]) -> None:
    """Append all messages to a file, including hidden ones. Raises `OSError` if the file cannot be opened."""
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_Escaped("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _state.files.append(handler)


def reset() -> None:
    """Restore the state of a new process: nothing is hidden, and log files are closed."""
    global _state
    for handler in _state.files:
        handler.close()
    _state = _State()


class _Escaped(logging.Formatter):
    """Escapes control characters in log files, as on a terminal."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), LINES)


# ---------------------------------------------------------------- messages of commands


def note(message: str) -> None:
    """Print `note: MESSAGE`, unless notes are hidden."""
    if not _state.quiet:
        _print(f"note: {message}")
    _log("NOTE", message)


def progress(line: str, shown: bool = True) -> None:
    """Print a line about progress, unless progress is hidden.

    Arguments:
        line: the line.
        shown: False writes the line only to log files.
    """
    if shown and not _state.quiet:
        _print(line)
    _log("PROGRESS", line)


def error(message: str, cause: BaseException | None = None) -> None:
    """Print `error: MESSAGE`; with `--verbose`, print the traceback of its cause first."""
    if _state.verbose and cause is not None:
        _print("".join(traceback.format_exception(cause)).rstrip())
    _print(f"error: {message}")
    log_error(message, cause)


def log_error(message: str, cause: BaseException | None = None) -> None:
    """Write an error and its traceback to the log files, for errors that are printed elsewhere."""
    _log("ERROR", message, cause=cause)


def _print(line: str) -> None:
    with suppress(OSError):  # the terminal or the pipe is closed; training continues without it
        print(line, file=sys.stderr, flush=True)


def _log(level: str, message: str, name: str = "hebm", cause: BaseException | None = None) -> None:
    if not _state.files or (os.environ.get("RANK", "0") != "0" and level != "ERROR"):
        return
    about = None if cause is None else (type(cause), cause, cause.__traceback__)
    record = logging.makeLogRecord({"name": name, "levelname": level, "msg": message, "exc_info": about})
    for handler in _state.files:
        handler.handle(record)


# ---------------------------------------------------------------- records of loggers


class _Shows(logging.Handler):
    """Prints warnings as notes, and all records with `--verbose`; writes all records to log files."""

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
    """Print the records of the loggers of these packages, and write them to the log files.

    Arguments:
        packages: names of the loggers. Inside the context their level is DEBUG, so that log files are complete.
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
