"""Command-line options for the keys of a recipe: `--learning-rate 0.1` sets the key `learning_rate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import click

from hebm.cli.plugin_keys import ComponentKey, component_keys
from hebm.config.document import read_text
from hebm.config.overrides import of_option
from hebm.config.structure import structure
from hebm.config.values import describe

T = TypeVar("T")

_METAVARS = {"an integer": "INTEGER", "a number": "NUMBER", "a string": "TEXT"}


def options_of(cls: type) -> list[click.Option]:
    """Return an option for each key of a recipe, with its meaning, choices and default."""
    return [_option(key) for key in component_keys(cls) if "." not in key.name]


def _option(key: ComponentKey) -> click.Option:
    flag, choices = _flag(key.name), key.field.metadata.get("choices")
    if key.field.type is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", key.name], default=None, help=_help(key))
    return click.Option(
        [flag, key.name],
        type=click.Choice([str(choice) for choice in choices]) if choices else str,
        metavar=None if choices else _METAVARS.get(describe(key.field.type), "VALUE"),
        required=key.required,
        help=_help(key),
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _help(key: ComponentKey) -> str:
    from hebm.config.writing import inline

    text = f"{key.doc[:1].upper()}{key.doc[1:]}" + "".join(f", {limit}" for limit in key.limits)
    default = key.default()
    return text + ("." if default in (None, "") else f"; default {inline(default)}.")


def recipe_of(cls: type[T], given: Mapping[str, Any]) -> T:
    """Return the recipe with the keys that were given on the command line.

    Arguments:
        cls: the class of the recipe.
        given: values by key, from the options of `options_of`; None for an option that was left out.

    Raises `ConfigError` with all values that do not fit.
    """
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}
    changes = [of_option(_flag(name), name, text) for name, text in texts.items() if text is not None]
    return structure(cls, read_text("", "the command line", changes))


def words_of(recipe: Any) -> list[str]:
    """Return the options that make this recipe on a command line, without those at their defaults."""
    return [word for key in component_keys(type(recipe)) if "." not in key.name for word in _words(key, recipe)]


def _words(key: ComponentKey, recipe: Any) -> list[str]:
    from hebm.config.writing import inline

    value = getattr(recipe, key.name)
    if value == key.default():
        return []
    if key.field.type is bool:
        return [_flag(key.name) if value else f"--no-{_flag(key.name)[2:]}"]
    return [_flag(key.name), value if isinstance(value, str) else inline(value)]
