"""`hebm init`: write a configuration to start from, or the skeleton of a plugin."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

import click

from hebm import registry
from hebm.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@click.command("init")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--plugin", metavar="NAME", help="Write a plugin with a prior called NAME, into the folder PATH.")
def command(path: Path | None, plugin: str | None) -> None:
    """Write a commented configuration to PATH (experiment.toml), or a plugin's skeleton."""
    if plugin is None:
        written = _write_starter(path or Path("experiment.toml"))
        click.echo(f"wrote {written}\nnext: hebm check {written}, then hebm run {written}")
        return
    folder = _write_plugin(plugin, path or Path(f"hebm-{plugin}"))
    click.echo(f"wrote {folder}\nnext: pip install -e '{folder}[dev]', then hebm plugins {plugin}")


def _write_starter(path: Path) -> Path:
    if path.suffix != ".toml":
        path = path.with_name(path.name + ".toml")
    name = re.sub(r"[^\w.+-]", "-", path.stem)
    name = name if re.match(r"\w", name) else f"run{name}"
    _write({path: _render("starter.toml", name=name[:100], file=path.name)})
    return path


def _write_plugin(name: str, folder: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--plugin {name}: a name is lower-case words joined by hyphens, such as score-matching")
    if name in registry.names("hebm_priors"):
        owner = registry.status("hebm_priors")
        taken = next(entry for entry in owner if entry.name == name)
        raise ConfigError(f"--plugin {name}: {' and '.join(map(str, taken.origins))} has a prior of this name already")
    package = "hebm_" + name.replace("-", "_")
    words = {
        "name": name,
        "distribution": f"hebm-{name}",
        "package": package,
        "class_name": "".join(word.capitalize() for word in name.split("-")),
        "interface": str(registry.INTERFACE),
    }
    sources = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        "example.toml": "example.toml.txt",
        f"{package}/__init__.py": "init.py.txt",
        f"{package}/prior.py": "prior.py.txt",
        "tests/test_prior.py": "test_prior.py.txt",
    }
    _write({folder / target: _render(source, **words) for target, source in sources.items()})
    return folder


def _render(source: str, **words: str) -> str:
    text = (resources.files("hebm.cli") / "skeleton" / source).read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _write(files: dict[Path, str]) -> None:
    """Write all files, or none if one of them exists already."""
    existing = [str(path) for path in files if path.exists()]
    if existing:
        raise ConfigError(f"refusing to overwrite {', '.join(existing)}; give another path")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written ({error.strerror})") from None
