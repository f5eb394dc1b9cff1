"""Configurations that come with hebm, by name: `quickstart` is `benchmarks/quickstart.toml`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hebm
from hebm.errors import ConfigError
from hebm.suggest import did_you_mean

_PLACES = (Path(hebm.__file__).parent / "benchmarks", Path(hebm.__file__).parents[1] / "benchmarks")
"""Their folders in an installed wheel and in a checkout."""


def shipped() -> dict[str, Path]:
    """Return all configurations by name, such as `quickstart`, `nvae/cifar10` or `sweeps/priors-mnist`."""
    root = next((place for place in _PLACES if place.is_dir()), None)
    paths = [] if root is None else sorted(root.rglob("*.toml"))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in paths if root is not None}


def found(path: Path) -> Path:
    """Return the path if it exists, else the path of the configuration with this name that comes with hebm.

    A missing path with a suffix is returned unchanged, and reading it raises the error.

    Raises `ConfigError` for a path without a suffix that is neither a file nor the name of a configuration.
    """
    if path.exists() or path.suffix:
        return path
    return named(path.as_posix(), f"{path}: no such file, and no configuration of this name comes with hebm")


def named(name: str, complaint: str) -> Path:
    """Return the path of the configuration `name`. Raises `ConfigError` with `complaint` and similar names."""
    known = shipped()
    if name not in known:
        folders = Counter(other.partition("/")[0] for other in known if "/" in other)
        tops = sorted(other for other in known if "/" not in other)
        listed = ", ".join([*tops, *(f"{folder}/ ({count})" for folder, count in folders.items())])
        raise ConfigError(f"{complaint}{did_you_mean(name, known)} (available: {listed})")
    return known[name]
