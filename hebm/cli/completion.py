"""Complete names of components, run folders and shipped configurations in a shell.

Completion reads only the metadata of installed distributions; it imports no component.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from hebm import registry

Completes = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_RUNS = "runs"
_CONFIG = "config.toml"


def components_of(groups: Iterable[str]) -> Completes:
    """Return a completer for the names of the components in these groups."""
    return words_of(lambda: {name for group in groups for name in registry.names(group)})


def words_of(known: Callable[[], Iterable[str]]) -> Completes:
    """Return a completer for a list of words.

    Arguments:
        known: returns the words; called at each completion.
    """
    return lambda ctx, parameter, incomplete: starting_with(incomplete, known())


def starting_with(incomplete: str, words: Iterable[str]) -> list[CompletionItem]:
    """Return the words that start with the typed text, in alphabetical order."""
    return [CompletionItem(word) for word in sorted(words) if word.startswith(incomplete)]


def run_folders(incomplete: str) -> list[CompletionItem]:
    """Return the run folders that start with the typed text: those in the typed folder, or else here and in `runs`.

    A run folder is a folder with a `config.toml`.
    """
    places = [incomplete.rpartition("/")[0] or "/"] if "/" in incomplete else [".", _RUNS]
    return starting_with(incomplete, (run for place in places for run in _runs_in(place)))


def path_starts_with(incomplete: str) -> bool:
    """Return whether the name of a file or folder starts with the typed text."""
    folder, name = os.path.split(incomplete)
    try:
        return any(entry.startswith(name) for entry in os.listdir(folder or "."))
    except OSError:
        return False


def _runs_in(folder: str) -> list[str]:
    try:
        return [entry.as_posix() for entry in Path(folder).iterdir() if (entry / _CONFIG).is_file()]
    except OSError:
        return []
