"""A sweep file: the file of a run, seeds, and variants, each with a name and changes of keys.

base = "quickstart.toml"          # next to the sweep file, or "quickstart", a configuration that comes with hebm
seeds = [0, 1, 2]

[set]                             # changes of every run
evaluate.samples = 5000

[variants.joint]                  # no changes: the run of the base file itself

[variants.diffusion]
seeds = [0]                       # fewer seeds than the others
prior = { type = "diffusion", energy.type = "mlp-time" }

[slurm]                           # for `hebm sweep --slurm`: the resources of each run
partition = "gpu"
gpus_per_node = 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from hebm.config.document import Document, read
from hebm.config.overrides import Changes, Override, parse
from hebm.config.overrides import Path as KeyPath
from hebm.config.shipped import shipped
from hebm.config.slurm import SlurmSettings
from hebm.config.structure import INVALID, Reading
from hebm.config.writing import in_toml
from hebm.errors import ConfigError
from hebm.suggest import did_you_mean

_KEYS = ("name", "base", "seeds", "set", "variants", "slurm")
_SLURM = "slurm"
_OF_SWEEPS, _OF_RUNS = ("base", "seeds", "variants"), ("data", "backbone", "prior")
_OWN = {"name": "the sweep names its runs", "seed": "the sweep has a list, `seeds`"}


def is_sweep(table: Mapping[str, Any]) -> bool:
    """Return whether a table is the content of a sweep file and not of a run's file."""
    return any(key in table for key in _OF_SWEEPS) and not any(key in table for key in _OF_RUNS)


def is_sweep_file(path: str | Path) -> bool:
    """Return whether a file is a sweep file. Raises `ConfigError` if it cannot be read."""
    return is_sweep(read(path).table)


@attrs.frozen
class Variant:
    """A variant of the base file.

    Arguments:
        name: its name, which is a part of the names of its runs.
        seeds: the seeds of its runs.
        overrides: changes of the base file's keys.
    """

    name: str
    seeds: tuple[int, ...]
    overrides: tuple[Override, ...]


@attrs.frozen
class Sweep:
    """The content of a sweep file.

    Arguments:
        file: the sweep file, for messages.
        name: its name, which starts the names of its runs.
        base: the file of the run that the variants change.
        variants: the variants in the order of the file.
        shared: changes of every run, applied before those of a variant.
        changes: changes of every run, applied after those of a variant.
        slurm: the resources that each run requests from a SLURM cluster.
    """

    file: str
    name: str
    base: Path
    variants: tuple[Variant, ...]
    shared: tuple[Override, ...] = ()
    changes: tuple[Override, ...] = ()
    slurm: SlurmSettings = attrs.field(factory=SlurmSettings)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all variants, in order."""
        return tuple(dict.fromkeys(seed for variant in self.variants for seed in variant.seeds))

    @classmethod
    def load(cls, path: str | Path, changes: Changes = ()) -> Self:
        """Read a sweep file.

        Arguments:
            path: the file. Its stem is the sweep's name unless the file sets one.
            changes: changes of every run: values by dotted key, or `--set` texts. They are applied after those of the
                file. Keys that start with `slurm.` change the file's table `[slurm]`.

        Raises `ConfigError` with all problems, each with its place, its key and the allowed values.
        """
        every = in_toml(parse(changes))
        of_cluster = [change for change in every if change.path[0] == _SLURM]
        last = tuple(change for change in every if change not in of_cluster)
        document = read(path, of_cluster)
        if not is_sweep(document.table):
            raise ConfigError(
                f"{path}: is not a sweep file, which needs the keys `base`, `seeds` and `variants`; "
                f"start a single run with `hebm run {path}`"
            )
        if complaints := [f"{change.source}: {text}" for change in last if (text := _complaint(change))]:
            raise ConfigError("\n".join(complaints))
        reader = _Reader(document)
        slurm = reader.slurm()
        return cls(*reader.values(Path(path)), last, slurm)


class _Reader:
    """Reads the table of a sweep file and records all problems.

    Arguments:
        document: the file.
    """

    def __init__(self, document: Document) -> None:
        self.document, self.table, self.reading = document, document.table, Reading(document)

    def values(self, path: Path) -> tuple[str, str, Path, tuple[Variant, ...], tuple[Override, ...]]:
        """Return the fields of `Sweep` before `changes`, in order. Raises `ConfigError` with all problems."""
        for key in self.table:
            if key not in _KEYS:
                allowed = f"{did_you_mean(key, _KEYS)} (allowed: {', '.join(_KEYS)})"
                self.reading.problem((key,), f"unknown key{allowed}", "unknown")
        name, base = self._value(str, "name", path.stem), self._value(str, "base")
        seeds, shared = self._seeds(("seeds",), self.table.get("seeds")), self._overrides(("set",))
        variants = self._variants(() if seeds is INVALID else seeds)
        file = path if base is INVALID else self._base(path.parent / base, base)
        self.reading.require_none()
        return str(path), name, file, variants, shared

    def _base(self, local: Path, base: str) -> Path:
        """Return the file of the base: `local` if it exists, else the configuration of this name."""
        found = local if local.is_file() else shipped().get(base)
        if found is None:
            near = did_you_mean(base, shipped())
            self.reading.problem(
                ("base",),
                f"{local} not found; the path is relative to this file, and no configuration of this name comes with "
                f"hebm{near}",
            )
        return found or local

    def slurm(self) -> SlurmSettings:
        """Return the settings in the table `slurm`; `values` raises its problems."""
        found = self.reading.value(SlurmSettings, self.table.get(_SLURM, {}), (_SLURM,))
        return SlurmSettings() if found is INVALID else found

    def _value(self, kind: type, key: str, default: Any = None) -> Any:
        found = self.table.get(key, default)
        if found is None:
            return self.reading.problem((key,), "missing; expected the file of a run", "missing")
        return self.reading.value(kind, found, (key,))

    def _seeds(self, path: KeyPath, raw: Any) -> Any:
        if raw is None:
            return self.reading.problem(path, "missing; expected a list of integers, such as [0, 1, 2]", "missing")
        found = self.reading.value(tuple[int, ...], raw, path)
        if found is not INVALID and (not found or len(set(found)) < len(found)):
            return self.reading.problem(path, f"expected at least one seed, and each only once, got {raw}")
        return found

    def _variants(self, seeds: tuple[int, ...]) -> tuple[Variant, ...]:
        tables = self.table.get("variants")
        if not isinstance(tables, dict) or not tables:
            self.reading.problem(("variants",), "expected a table for each variant, such as [variants.joint]")
            return ()
        return tuple(found for name in tables if (found := self._variant(name, tables[name], seeds)) is not INVALID)

    def _variant(self, name: str, table: Any, seeds: tuple[int, ...]) -> Any:
        path = ("variants", name)
        if not isinstance(table, dict):
            return self.reading.problem(path, "expected a table with changes of keys")
        own = self._seeds((*path, "seeds"), table["seeds"]) if "seeds" in table else seeds
        return INVALID if own is INVALID else Variant(name, own, self._overrides(path, leave="seeds"))

    def _overrides(self, path: tuple[str, ...], leave: str = "") -> tuple[Override, ...]:
        """Return the changes of keys in a table, each with its place in the file."""
        table: Any = self.table
        for part in path:
            table = table.get(part, {})
        if not isinstance(table, dict):
            self.reading.problem(path, "expected a table with changes of keys")
            return ()
        found = []
        for keys, value in _leaves({key: value for key, value in table.items() if key != leave}):
            place = self.document.place((*path, *keys))
            try:
                (override,) = in_toml(parse({".".join(keys): value}))
            except ConfigError as error:
                self.reading.problem((*path, *keys), str(error))
                continue
            if text := _complaint(override):
                self.reading.problem((*path, *keys), text)
            found.append(attrs.evolve(override, source=place))
        return tuple(found)


def _leaves(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and value of each entry that is not a table."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _complaint(override: Override) -> str | None:
    """Return a message about a change that the sweep itself makes, or that `--set` cannot make; or None."""
    key = override.path[0]
    if len(override.path) == 1 and key in _OWN:
        return f"{key}: {_OWN[key]}; leave this key out"
    if override.value is None:
        return f"{'.'.join(override.path)}: a sweep cannot leave a key out; give it a value"
    return None
