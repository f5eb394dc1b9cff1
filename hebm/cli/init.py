"""`hebm init`: write a starter configuration, or the skeleton of a plugin."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import click

from hebm import messages, registry
from hebm.class_names import class_names
from hebm.cli.completion import words_of
from hebm.cli.kinds import KINDS, Kind, example, tries
from hebm.cli.options import UserPath
from hebm.config.overrides import parse
from hebm.config.shipped import named, shipped
from hebm.config.sweep_file import is_sweep
from hebm.errors import ConfigError
from hebm.suggest import did_you_mean

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@click.command("init")
@click.argument("path", required=False, type=UserPath())
@click.option(
    "--data",
    "images",
    metavar="FOLDER",
    type=UserPath(),
    help="Inspect these images, and write a configuration for them.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=1),
    help="With --data: time for training and evaluation on this machine.  [default: 30]",
)
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="With --data: set a key of [data], such as --set data.labels=labels.csv. Repeatable.",
)
@click.option(
    "--from",
    "source",
    metavar="NAME",
    shell_complete=words_of(shipped),
    help="Copy a configuration that comes with hebm, such as quickstart or nvae/cifar10.",
)
@click.option("--plugin", metavar="NAME", help="Write a plugin with a component named NAME into the folder PATH.")
@click.option(
    "--kind",
    metavar="KIND",
    shell_complete=words_of(lambda: KINDS),
    help=f"The kind of the component: {', '.join(KINDS)}.  [default: prior]",
)
def command(
    path: Path | None,
    images: Path | None,
    minutes: float | None,
    overrides: tuple[str, ...],
    source: str | None,
    plugin: str | None,
    kind: str | None,
) -> None:
    """Write a commented configuration to PATH (default: experiment.toml), or a plugin's skeleton.

    With --data FOLDER (or .zip, .tar) it inspects the number, sizes, colours and labels of the images, takes a few
    training steps on them, and writes the configuration of a small NVAE with a learned prior that takes about --minutes
    on this machine.
    """
    if plugin is None:
        if kind is not None:
            raise ConfigError(f"--kind {kind} needs --plugin NAME")
        if images is None and (minutes is not None or overrides):
            raise ConfigError(f"{'--minutes' if minutes is not None else '--set'} needs --data FOLDER")
        target = _target(path or Path("experiment.toml"))
        if source is not None and images is not None:
            raise ConfigError("--from cannot be combined with --data; leave one out")
        if source is not None:
            _write_copy(target, source)
        elif images is None:
            _write_starter(target)
        else:
            _write_for_images(target, images, 30.0 if minutes is None else minutes, overrides)
        click.echo(f"wrote {target}\nnext: hebm check {target}, then hebm run {target}")
        return
    _require_none({"--data": images, "--from": source, "--minutes": minutes, "--set": overrides or None})
    folder = _write_plugin(plugin, kind or "prior", path or Path(f"hebm-{plugin}"))
    click.echo(f"wrote {folder}\nnext: pip install -e '{folder}[dev]', then pytest in {folder}; see {folder}/README.md")


def _require_none(values: Mapping[str, object]) -> None:
    """Raise `ConfigError` for an option that only configurations have."""
    for option, value in values.items():
        if value is not None:
            raise ConfigError(f"{option} cannot be combined with --plugin; leave one out")


def _target(path: Path) -> Path:
    return path if path.suffix == ".toml" else path.with_name(path.name + ".toml")


def _run_name(path: Path) -> str:
    """Return a valid run name derived from a file name."""
    name = re.sub(r"[^\w.+-]", "-", path.stem)
    return (name if re.match(r"\w", name) else f"run{name}")[:100]


def _write_starter(path: Path) -> None:
    _write({path: _render("starter.toml", name=_run_name(path), file=path.name)})


def _write_copy(path: Path, source: str) -> None:
    """Copy a configuration that comes with hebm. Raises `ConfigError` for a sweep file, which needs its base file."""
    found = named(source, f"--from {source}: no configuration of this name comes with hebm")
    text = found.read_text(encoding="utf-8")
    if is_sweep(tomllib.loads(text)):
        raise ConfigError(
            f"--from {source}: is a sweep file, which needs the base file next to it; run it with `hebm sweep {source}`"
        )
    _write({path: text})


def _write_for_images(path: Path, images: Path, minutes: float, overrides: tuple[str, ...]) -> None:
    from hebm.cli.first_configuration import first_configuration

    _require_new([path])  # before the trial, which takes a minute
    settings = _of_data(overrides)
    found = first_configuration(images, minutes, path.name, _run_name(path), settings, messages.progress)
    _write({path: found.text})
    click.echo(f"time of a run: {found.check.estimate}")


def _of_data(overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return the changes of keys of the table `data`. Raises `ConfigError` for other keys."""
    found = parse(overrides)
    for override in found:
        if len(override.path) != 2 or override.path[0] != "data":
            raise ConfigError(f"{override.source}: --data allows only keys of [data]; edit other keys in the file")
    return {override.path[1]: override.value for override in found}


def _write_plugin(name: str, kind: str, folder: Path) -> Path:
    if kind not in KINDS:
        raise ConfigError(f"--kind {kind}: unknown{did_you_mean(kind, KINDS)} (kinds: {', '.join(KINDS)})")
    _check_name(name, KINDS[kind])
    words = _words(name, kind)
    package = words["package"]
    sources = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        f"{package}/__init__.py": "init.py.txt",
        f"{package}/{kind}.py": f"{kind}.py.txt",
        f"tests/test_{kind}.py": f"{kind}_test.py.txt",
    }
    files = {folder / target: _render(source, **words) for target, source in sources.items()}
    _check_class_name(name, words["class_name"], files[folder / package / f"{kind}.py"])
    if kind != "format":
        files[folder / "example.toml"] = example(KINDS[kind], name)
    _write(files)
    return folder


def _words(name: str, kind: str) -> dict[str, str]:
    """Return the values of the skeleton's placeholders."""
    about = KINDS[kind]
    class_name = "".join(word.capitalize() for word in name.split("-"))
    return {
        "name": name,
        "kind": kind,
        "group": about.group,
        "title": about.title,
        "article": "An" if about.title[0] in "aeiou" else "A",
        "does": about.does,
        "use": about.use.replace("NAME", name),
        "tries": "\n".join(f"    {line}" for line in tries(about, name)),
        "distribution": f"hebm-{name}",
        "package": "hebm_" + name.replace("-", "_"),
        "class_name": class_name,
        "target": "command" if kind == "command" else class_name,
        "interface": str(registry.INTERFACE),
    }


def _check_name(name: str, kind: Kind) -> None:
    """Raise `ConfigError` for a name that is malformed or already used."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--plugin {name}: a name is lower-case words joined by hyphens, such as score-matching")
    taken = registry.declared(kind.group).get(name)
    if taken:
        owners = " and ".join(map(str, taken))
        raise ConfigError(f"--plugin {name}: {owners} already has a {kind.title} of this name; choose another name")


def _check_class_name(name: str, class_name: str, source: str) -> None:
    """Raise `ConfigError` if the class name is invalid in the source, or used by another component."""
    if class_name in class_names():
        raise ConfigError(f"--plugin {name}: another component already has a class {class_name}; choose another name")
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a keyword, such as True
        raise ConfigError(f"--plugin {name}: {class_name} is not a valid class name; choose another name") from None
    imports = (node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)))
    if class_name in [alias.name for node in imports for alias in node.names]:
        raise ConfigError(f"--plugin {name}: {class_name} is already the name of a class of hebm; choose another name")


def _render(source: str, **words: str) -> str:
    text = (resources.files("hebm.cli") / "skeleton" / source).read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _write(files: dict[Path, str]) -> None:
    """Write all files, or none if one of them already exists."""
    _require_new(files)
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written ({error.strerror})") from None


def _require_new(paths: Iterable[Path]) -> None:
    """Raise `ConfigError` if one of the files already exists."""
    existing = [str(path) for path in paths if path.exists()]
    if existing:
        raise ConfigError(f"refusing to overwrite {', '.join(existing)}; give another path")
