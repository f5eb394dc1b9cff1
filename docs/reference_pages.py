"""Write the pages of the reference from what is installed: components, commands, tables of a file, names, skeletons.

`pages` returns them as Markdown and needs nothing but hebm; `write` puts them into a folder, for Sphinx.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from string import Template
from types import ModuleType
from typing import Any

import click
from docstring_markup import as_markdown, description

import hebm
import hebm.interfaces
import hebm.testing
from hebm import registry
from hebm.cli.kinds import KINDS
from hebm.cli.main import main
from hebm.cli.output import OPTIONS
from hebm.cli.plugin_keys import ComponentKey, component_keys
from hebm.config.experiment import Experiment
from hebm.config.recipes import fields_of, table_of
from hebm.config.settings import RunSettings
from hebm.config.slurm import SlurmSettings
from hebm.config.writing import inline
from hebm.entry_points import short_group
from hebm.evaluation.settings import EvaluateSettings
from hebm.registry import COMMANDS, GROUPS

TITLES = {
    "hebm_backbones": "Backbones",
    "hebm_energies": "Energies",
    "hebm_priors": "Priors",
    "hebm_samplers": "Samplers",
    "hebm_datasets": "Data sets",
    "hebm_extractors": "Extractors",
    "hebm_metrics": "Metrics",
    "hebm_schemes": "Training schemes",
    "hebm_formats": "Checkpoint formats",
    "hebm_analyses": "Analyses",
}
PLACES = {
    "hebm_backbones": "the table `[backbone]`",
    "hebm_energies": "a key of priors, such as `prior.energy`",
    "hebm_priors": "the table `[prior]`",
    "hebm_samplers": "a key of priors, such as `prior.sampler`",
    "hebm_datasets": "the table `[data]`",
    "hebm_extractors": "`evaluate.extractors`",
    "hebm_metrics": "`evaluate.metrics`",
    "hebm_schemes": "the table `[train]`",
    "hebm_formats": "`hebm import` and `hebm export`",
    "hebm_analyses": "`hebm analyse RUN NAME`, with keys given as `--set NAME.key=value`",
}
_LONG = 150


def pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    found = {f"{short_group(group)}.md": components(group) for group in GROUPS if group != COMMANDS}
    found |= {"commands.md": commands(), "tables.md": tables()}
    found |= {"python.md": python_names(), "interfaces.md": interface_names(), "testing.md": testing_names()}
    return found | {"skeletons.md": skeletons()}


def write(folder: Path) -> None:
    """Write the pages into a folder; files that already have their text stay untouched, so that Sphinx skips them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        file = folder / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- components


def components(group: str) -> str:
    """Return the page of a group of components: each with its description and its keys."""
    names = [name for name in registry.names(group) if registry.origin(group, name).distribution == "hebm"]
    listing = "\n".join(
        f"* [`{name}`](#{label(group, name)}): {_summary(registry.find(group, name))}" for name in names
    )
    about = f"The `type` of {PLACES[group]}." if group not in ("hebm_formats", "hebm_analyses") else ""
    intro = about or f"Used by {PLACES[group]}."
    parts = [f"# {TITLES[group]}", intro, listing, *(component(group, name) for name in names)]
    return "\n\n".join(parts) + "\n"


def component(group: str, name: str) -> str:
    """Return the section of one component."""
    cls = registry.find(group, name)
    heading = f"({label(group, name)})=\n## `{name}`"
    about = as_markdown(description(cls.__doc__))
    return "\n\n".join([heading, about, _in_words(_in_python(group, name, cls), cls), keys(cls)])


def _in_words(path: str, cls: type) -> str:
    """Say what a component and the tables inside it are called in Python."""
    tables = [(field.name, table) for field in fields_of(cls) if (table := table_of(field.type)) is not None]
    listed = "".join(f", its table `{name}`: `{path}.{table.__name__}`" for name, table in tables)
    return f"In Python: `{path}`{listed}."


def label(group: str, name: str) -> str:
    """Return the name by which pages link to a component."""
    return f"{short_group(group)}-{name}"


def keys(cls: type) -> str:
    """Return the keys of a recipe as a definition list; keys of a table inside it follow it, with dots."""
    return "\n\n".join(_key(key) for key in component_keys(cls)) or "It has no keys."


def _key(key: ComponentKey) -> str:
    takes = _sentence(", ".join([_values(key.type), *key.limits]) + _default(key))
    return f"`{key.name}`\n: {takes}\\\n  {_sentence(as_markdown(key.doc))}"


def _sentence(words: str) -> str:
    """Return words with a capital letter, unless they start with a symbol such as p_0, and with a full stop."""
    first = words[0].upper() if re.match(r"(a|[a-z]{2,})\b(?!_)", words) else words[0]
    return first + words[1:] + ("" if words.endswith((".", "?")) else ".")


def _values(words: str) -> str:
    """Return the words for a type as Markdown: its literals as code, groups of components as links."""
    if words.startswith("one of "):
        return "one of " + ", ".join(
            f"`{choice.strip(chr(39))}`" for choice in words.removeprefix("one of ").split(", ")
        )
    linked = re.sub(r"\bhebm_(\w+)", lambda group: f"<{group[1]}>", as_markdown(words))
    return re.sub(r"<(\w+)>", r"[\1](\1.md)", linked)


def _default(key: ComponentKey) -> str:
    if key.table:
        return ", whose keys follow"
    if key.required:
        return "; required"
    value = key.default()
    return "; may be left out" if value is None else f"; default `{_short(inline(value))}`"


def _short(value: str) -> str:
    """Return a value as TOML; of a long table, its type alone, since its keys are listed with the component."""
    return re.sub(r"(\{ type = \"[\w-]+\"),.*", r"\1, … }", value) if len(value) > _LONG else value


def _summary(found: Any) -> str:
    return as_markdown(description(found.__doc__).split("\n\n")[0]).replace("\n", " ")


def _in_python(group: str, name: str, cls: type) -> str:
    """Return how Python gets a component: by its class's name, unless two components share it."""
    shared = [
        (other, own)
        for other in GROUPS
        for own, origins in registry.declared(other).items()
        if other != COMMANDS and any(origin.attr == cls.__name__ for origin in origins)
    ]
    return f"hebm.{cls.__name__}" if len(shared) == 1 else f'hebm.registry.find("{group}", "{name}")'


# ---------------------------------------------------------------- commands


def commands() -> str:
    """Return the page of all commands and their options."""
    top = click.Context(main, info_name="hebm")
    names = main.list_commands(top)
    listing = "\n".join(f"* [`hebm {name}`](#command-{name}): {_line(top, name)}" for name in names)
    intro = "`hebm COMMAND --help` shows the same. These options come before the command:\n\n"
    intro += _options(main, top, common=False) + "\n\n"
    intro += "These come before the command or after it, and every command takes them:\n\n"
    intro += _options(main, top, common=True)
    return "\n\n".join(["# Commands", listing, intro, *(_command(top, name) for name in names)]) + "\n"


def _line(top: click.Context, name: str) -> str:
    return as_markdown(_found(top, name).get_short_help_str(200))


def _found(top: click.Context, name: str) -> click.Command:
    command = main.get_command(top, name)
    if command is None:
        raise LookupError(f"command {name}")
    return command


def _command(top: click.Context, name: str) -> str:
    command = _found(top, name)
    context = click.Context(command, info_name=name, parent=top)
    about = as_markdown((command.help or "").replace("\b\n", ""))
    parts = [f"(command-{name})=\n## `hebm {name}`", _usage(command, context), about]
    return "\n\n".join([*parts, _options(command, context, common=False), *_inner_commands(command, context)])


def _usage(command: click.Command, context: click.Context) -> str:
    return f"```text\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```"


def _inner_commands(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the usage, the help and the options of each command of a group."""
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is None:
            raise LookupError(f"command {context.command_path} {name}")
        within = click.Context(inner, info_name=name, parent=context)
        yield f"### `hebm {context.info_name} {name}`"
        yield from (_usage(inner, within), as_markdown(inner.help or ""), _options(inner, within, common=False))


def _options(command: click.Command, context: click.Context, common: bool) -> str:
    """Return the options of a command: those that every command takes, or the others."""
    parameters = [one for one in command.get_params(context) if (one in OPTIONS) == common]
    records = [parameter.get_help_record(context) for parameter in parameters]
    rows = [(flags, about) for flags, about in filter(None, records) if flags.startswith("-")]
    return "\n\n".join(f"`{flags}`\n: {as_markdown(about)}" for flags, about in rows)


# ---------------------------------------------------------------- tables of a file


def tables() -> str:
    """Return the page of the tables that are not components: the file itself, `[evaluate]`, `[run]`, `[slurm]`."""
    schemes = "\n".join(f"* [`{name}`](#{label('hebm_schemes', name)})" for name in registry.names("hebm_schemes"))
    parts = [
        "# Tables of a file",
        "A run is one TOML file. Tables with a `type` are components and have their own pages; these are the others.",
        "(table-file)=\n## The file",
        _top_level(),
        "(table-train)=\n## `[train]`",
        f"The keys depend on the scheme, `train.type`; left out, it is `two-phase`.\n\n{schemes}",
        *_table("evaluate", EvaluateSettings),
        *_table("run", RunSettings),
        *_table("slurm", SlurmSettings, "Only in sweep files. "),
    ]
    return "\n\n".join(parts) + "\n"


def _top_level() -> str:
    """Return the keys of the file without those of the tables inside it, which have sections and pages."""
    return "\n\n".join(_key(key) for key in component_keys(Experiment) if "." not in key.name)


def _table(name: str, cls: type, before: str = "") -> Iterator[str]:
    yield f"(table-{name})=\n## `[{name}]`"
    yield before + as_markdown(description(cls.__doc__))
    yield keys(cls)


# ---------------------------------------------------------------- Python names


def python_names() -> str:
    """Return the page of the names of `hebm`; what an author of plugins needs is on the page of the interfaces."""
    elsewhere = [name for name in hebm.__all__ if name in hebm.interfaces.__all__]
    links = ", ".join(f"{{py:obj}}`{name} <hebm.interfaces.{name}>`" for name in elsewhere)
    registered = (
        'Every registered component is available under its class\'s name, too: `hebm.Joint` is what `type = "joint"` '
        "means, and its arguments are the keys of the file. They are listed with the components."
    )
    parts = [
        "# Python: `hebm`",
        registered,
        _documented(hebm, [name for name in hebm.__all__ if name not in elsewhere]),
    ]
    return (
        "\n\n".join([*parts, f"## Names for authors of plugins\n\nOn the [next page](interfaces.md): {links}."]) + "\n"
    )


def interface_names() -> str:
    """Return the page of the names of `hebm.interfaces`."""
    intro = "What the author of a prior, a backbone, an energy or a sampler imports."
    return (
        "\n\n".join(["# Python: `hebm.interfaces`", intro, _documented(hebm.interfaces, hebm.interfaces.__all__)])
        + "\n"
    )


def testing_names() -> str:
    """Return the page of the names of `hebm.testing`."""
    intro = "The conformance checks in Python. `pytest --hebm DISTRIBUTION` makes the same checks without code."
    return "\n\n".join(["# Python: `hebm.testing`", intro, _documented(hebm.testing, hebm.testing.__all__)]) + "\n"


def _documented(module: ModuleType, names: list[str]) -> str:
    """Return directives that document names of a module, by kind: functions, classes, errors, values."""
    found = {name: getattr(module, name) for name in names}
    kinds = {
        "Functions": [name for name in names if inspect.isfunction(found[name])],
        "Classes": [name for name in names if inspect.isclass(found[name]) and not _is_error(found[name])],
        "Errors": [name for name in names if _is_error(found[name])],
    }
    values = [name for name in names if not any(name in known for known in kinds.values())]
    sections = [f"## {title}\n\n{_directives(module, known)}" for title, known in kinds.items() if known]
    listed = ", ".join(f"`{module.__name__}.{name}`" for name in values)
    return "\n\n".join(sections) + (f"\n\n## Values\n\n{listed}" if values else "")


def _members(found: type) -> str:
    """Return the options of `autoclass` that list the members of a class, without the classes of its tables."""
    tables = [name for name, value in vars(found).items() if inspect.isclass(value)]
    return "\n   :members:" + (f"\n   :exclude-members: {', '.join(tables)}" if tables else "")


def _is_error(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, BaseException)


def _directives(module: ModuleType, names: list[str]) -> str:
    rows = []
    for name in names:
        found = getattr(module, name)
        kind = "autofunction" if inspect.isfunction(found) else "autoexception" if _is_error(found) else "autoclass"
        rows.append(f".. {kind}:: {module.__name__}.{name}" + (_members(found) if inspect.isclass(found) else ""))
    return "```{eval-rst}\n" + "\n\n".join(rows) + "\n```"


# ---------------------------------------------------------------- plugins


def skeletons() -> str:
    """Return the page of the smallest component of each kind, as `hebm init --plugin` writes it."""
    intro = "`hebm init --plugin mine --kind KIND` writes a complete distribution with one of these, and its tests."
    return "\n\n".join(["# Skeletons of plugins", intro, *map(_skeleton, KINDS)]) + "\n"


def _skeleton(kind: str) -> str:
    about = KINDS[kind]
    text = resources.files("hebm.cli").joinpath("skeleton", f"{kind}.py.txt").read_text(encoding="utf-8")
    code = Template(text).substitute(name="mine", class_name="Mine")
    use = about.use.replace("NAME", "mine")
    about_it = f"Entry-point group `{about.group}`. The example is {about.does}; use it by `{use}`."
    return f"(skeleton-{kind})=\n## {about.title.capitalize()} (`--kind {kind}`)\n\n{about_it}\n\n```python\n{code}```"
