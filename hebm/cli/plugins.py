"""`hebm plugins`: list the installed components; describe one of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import click

from hebm import registry
from hebm.cli.completion import components_of
from hebm.cli.json_output import json_option, only_json, print_json
from hebm.cli.plugin_keys import component_keys, require_readable
from hebm.distributions import installed_distributions, unreadable_note
from hebm.entry_points import short_group
from hebm.errors import PluginError
from hebm.outlines import Unreadable
from hebm.registry import GROUPS, INTERFACE
from hebm.suggest import did_you_mean

T = TypeVar("T")

_SHORT = {short_group(group): group for group in GROUPS}


@click.command("plugins")
@click.argument("name", required=False, shell_complete=components_of(GROUPS))
@click.option("--group", type=click.Choice([*_SHORT, *GROUPS]), metavar="GROUP", help=f"One of {', '.join(_SHORT)}.")
@click.option("--load", is_flag=True, help="Import every plugin, or NAME, to find all broken ones (seconds).")
@json_option
def command(name: str | None, group: str | None, load: bool, as_json: bool) -> None:
    """List the installed components, or describe NAME with its keys, types, defaults and origin.

    With --json: `interface`, `blocked`, `unreadable` (unreadable distributions, each with `distribution` and `error`)
    and `plugins`, a list. Each plugin has `group`, `name`, `origins` (distribution, version, path), `summary` and
    `error` (null if none was found). With NAME, it has `origin` (also file and line), `documentation` and `keys` (name,
    type, required, default, doc, and low, above, high, unit or choices).
    """
    groups = tuple(GROUPS) if group is None else (_SHORT.get(group, group),)
    if as_json:
        with only_json(True):
            found = _listed(groups, load) if name is None else _described(groups, name, load)
        about = {"interface": INTERFACE, "blocked": registry.blocked(), "unreadable": _unreadable()}
        print_json({**about, "plugins": found})
    elif name is None:
        _list(groups, load)
    else:
        _describe(groups, name, load)


# ---------------------------------------------------------------- the listing


def _list(groups: tuple[str, ...], load: bool) -> None:
    entries = {group: registry.status(group, load) for group in groups}
    width = max((len(entry.name) for group in groups for entry in entries[group]), default=0)
    for group in groups:
        click.echo(short_group(group))
        for entry in entries[group]:
            origins = " and ".join(map(str, entry.origins))
            about = " ".join(f"BROKEN: {entry.error}".split()) if entry.error else entry.summary
            click.echo(f"  {entry.name:{width}}  {origins:12}  {about}".rstrip())
    if unreadable := installed_distributions().unreadable:
        click.echo("unreadable distributions, which are ignored")
    for one in unreadable:
        click.echo(f"  {one.distribution:{width}}  BROKEN: {one.cause}; reinstall or remove it")
    if registry.blocked():
        click.echo(f"blocked: {', '.join(registry.blocked())}")
    click.echo(f"Plugin interface {INTERFACE}. `hebm plugins NAME` shows keys and defaults.")
    if not load:
        click.echo("`--load` imports all plugins to find every broken one.")


def _listed(groups: tuple[str, ...], load: bool) -> list[dict[str, Any]]:
    return [
        {
            "group": short_group(group),
            "name": entry.name,
            "origins": [_origin(origin) for origin in entry.origins],
            "summary": entry.summary,
            "error": entry.error,
        }
        for group in groups
        for entry in registry.status(group, load)
    ]


def _unreadable() -> list[dict[str, Any]]:
    return [{"distribution": one.distribution, "error": one.cause} for one in installed_distributions().unreadable]


def _origin(origin: registry.Origin) -> dict[str, Any]:
    return {"distribution": origin.distribution, "version": origin.version, "path": origin.path}


# ---------------------------------------------------------------- one component


def _having(groups: tuple[str, ...], name: str) -> list[str]:
    """Return the groups that contain the name. Raises `PluginError` if none does."""
    having = [group for group in groups if name in registry.names(group)]
    if not having:
        known = {known for group in groups for known in registry.names(group)}
        raise PluginError(
            f"no plugin {name!r} is installed{did_you_mean(name, known)}; `hebm plugins` lists all{unreadable_note()}"
        )
    return having


def _read(describe: Callable[[str, str], T], group: str, name: str, load: bool) -> T:
    """Describe a component from its source; import it if its source is not enough, or if `load` is set."""
    if not load:
        with suppress(Unreadable), registry.reading():
            require_readable(registry.find(group, name))
            return describe(group, name)
    return describe(group, name)


def _describe(groups: tuple[str, ...], name: str, load: bool) -> None:
    errors = []
    for group in _having(groups, name):
        try:
            click.echo(_read(_text, group, name, load))
        except PluginError as error:
            errors.append(str(error))
    if errors:
        raise PluginError("\n".join(errors))


def _text(group: str, name: str) -> str:
    return "\n".join(_description(group, name))


def _description(group: str, name: str) -> Iterator[str]:
    found = registry.find(group, name)
    origin = registry.origin(group, name)
    yield f"{short_group(group)}: {name}   ({origin})"
    yield f"  {origin.path}" + (f"   {origin.file}:{origin.line}" if origin.file else "")
    yield from (f"  {line}".rstrip() for line in _documentation(found).split("\n"))
    yield ""
    command = isinstance(found, click.Command)
    rows = _parameters(found) if command else [(key.name, key.as_text()) for key in component_keys(found)]
    width = max((len(row[0]) for row in rows), default=0)
    yield from (f"  {key:{width}}  {about}" for key, about in rows)


def _documentation(found: Any) -> str:
    return inspect.cleandoc((found.help if isinstance(found, click.Command) else found.__doc__) or "")


def _parameters(found: click.Command) -> list[tuple[str, str]]:
    context = click.Context(found)
    records = [parameter.get_help_record(context) for parameter in found.params]
    return [record for record in records if record]


def _described(groups: tuple[str, ...], name: str, load: bool) -> list[dict[str, Any]]:
    """Return the description of a name in each group that has it. Raises `PluginError` if one is broken."""
    return [_read(_plain, group, name, load) for group in _having(groups, name)]


def _plain(group: str, name: str) -> dict[str, Any]:
    found = registry.find(group, name)
    origin = registry.origin(group, name)
    if isinstance(found, click.Command):
        keys: list[dict[str, Any]] = [{"name": flags, "doc": about} for flags, about in _parameters(found)]
    else:
        keys = [key.to_json() for key in component_keys(found)]
    return {
        "group": short_group(group),
        "name": name,
        "origin": {**_origin(origin), "file": origin.file, "line": origin.line},
        "documentation": _documentation(found),
        "keys": keys,
    }
