"""`hebm plugins`: list what is installed; show the keys of a component."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import attrs
import click

from hebm import registry
from hebm.config.recipes import default_of, fields_of, group_of, is_recipe
from hebm.config.values import describe
from hebm.entry_points import short_group
from hebm.errors import HebmError, PluginError
from hebm.registry import GROUPS, INTERFACE
from hebm.suggest import did_you_mean

_SHORT = {short_group(group): group for group in GROUPS}
_BOUNDS = {"low": "≥ {}", "above": "> {}", "high": "≤ {}", "unit": "in {}"}


@click.command("plugins")
@click.argument("name", required=False)
@click.option("--group", type=click.Choice([*_SHORT, *GROUPS]), metavar="GROUP", help=f"One of {', '.join(_SHORT)}.")
@click.option("--load", is_flag=True, help="Import every plugin, to find all that are broken (seconds).")
def command(name: str | None, group: str | None, load: bool) -> None:
    """List the installed components, or describe the one called NAME: its keys, types, defaults and origin."""
    groups = tuple(GROUPS) if group is None else (_SHORT.get(group, group),)
    if name is None:
        _list(groups, load)
    else:
        _describe(groups, name)


# ---------------------------------------------------------------- the listing


def _list(groups: tuple[str, ...], load: bool) -> None:
    entries = {group: registry.status(group, load) for group in groups}
    width = max((len(entry.name) for group in groups for entry in entries[group]), default=0)
    for group in groups:
        click.echo(short_group(group))
        for entry in entries[group]:
            origins = " and ".join(map(str, entry.origins))
            about = f"BROKEN: {entry.error}" if entry.error else entry.summary
            click.echo(f"  {entry.name:{width}}  {origins:12}  {about}".rstrip())
    if registry.blocked():
        click.echo(f"blocked: {', '.join(registry.blocked())}")
    click.echo(f"The plugin interface has number {INTERFACE}; `hebm plugins NAME` shows keys and defaults.")
    if not load:
        click.echo("`--load` imports all plugins, to find every one that is broken.")


# ---------------------------------------------------------------- one component


def _describe(groups: tuple[str, ...], name: str) -> None:
    having = [group for group in groups if name in registry.names(group)]
    if not having:
        known = {known for group in groups for known in registry.names(group)}
        raise PluginError(f"there is no plugin {name!r}{did_you_mean(name, known)}; `hebm plugins` lists them")
    errors = []
    for group in having:
        try:
            click.echo("\n".join(_description(group, name)))
        except PluginError as error:
            errors.append(str(error))
    if errors:
        raise PluginError("\n".join(errors))


def _description(group: str, name: str) -> Iterator[str]:
    found = registry.find(group, name)
    origin = registry.origin(group, name)
    yield f"{short_group(group)}: {name}   ({origin})"
    yield f"  {origin.path}" + (f"   {origin.file}:{origin.line}" if origin.file else "")
    documentation = (found.help if isinstance(found, click.Command) else found.__doc__) or ""
    yield from (f"  {line}".rstrip() for line in inspect.cleandoc(documentation).split("\n"))
    yield ""
    rows = _parameters(found) if isinstance(found, click.Command) else list(_keys(found))
    width = max((len(row[0]) for row in rows), default=0)
    yield from (f"  {key:{width}}  {about}" for key, about in rows)


def _parameters(found: click.Command) -> list[tuple[str, str]]:
    context = click.Context(found)
    records = [parameter.get_help_record(context) for parameter in found.params]
    return [record for record in records if record]


def _keys(cls: type, base: Any = None, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, description) of each field; the keys of a settings class follow, dotted, with their defaults here."""
    for field in fields_of(cls):
        settings = _settings_class(field.type)
        yield prefix + field.name, _about(field, base, settings is not None)
        if settings is not None:
            yield from _keys(settings, _value(field, base), f"{prefix}{field.name}.")


def _settings_class(annotation: Any) -> type | None:
    members = [annotation, *typing.get_args(annotation)]
    classes = [member for member in members if is_recipe(member) and not group_of(member)]
    return classes[0] if classes else None


def _about(field: attrs.Attribute[Any], base: Any, is_table: bool) -> str:
    choices = field.metadata.get("choices")
    kind = f"one of {', '.join(map(repr, choices))}" if choices else describe(field.type)
    limits = [form.format(field.metadata[key]) for key, form in _BOUNDS.items() if key in field.metadata]
    about = ", ".join([kind, *limits]) + ("" if is_table else f"; {_default(field, base)}")
    return f"{about}. {field.metadata.get('doc', '')}".rstrip()


def _value(field: attrs.Attribute[Any], base: Any) -> Any:
    """Return the value of a key that is left out; None for a required one, too."""
    return default_of(field) if base is None else getattr(base, field.name)


def _default(field: attrs.Attribute[Any], base: Any) -> str:
    from hebm.config.writing import inline  # only here: a listing needs no TOML

    if field.default is attrs.NOTHING and base is None:
        return "required"
    try:
        value = _value(field, base)
        return "may be left out" if value is None else f"default {inline(value)}"
    except HebmError as error:  # a default that is another plugin, itself broken
        return f"default unavailable ({error})"
