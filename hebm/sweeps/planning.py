"""Plan the runs of a sweep: the experiment of each, and the run that trains its backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from hebm.config.document import dotted
from hebm.config.experiment import Experiment
from hebm.config.overrides import Override
from hebm.config.recipes import fields_of
from hebm.config.sweep_file import Sweep, Variant
from hebm.config.writing import inline
from hebm.errors import ConfigError
from hebm.store.run_folder import RunFolder

BACKBONE = "backbone"
"""Variant of the unchanged base file's runs, unless one of the sweep's variants changes nothing."""

_OF_PRIOR = ("prior", "posterior_draws", "backbone_from", "allow_unfinished")
"""Keys of `train` that do not affect the trained backbone."""

_READING = ("batch_size", "workers", "flip", "limit", "validation")
"""Keys of `data` that do not affect what a backbone models. Variants may differ in them and share a backbone."""


@attrs.frozen(eq=False)
class PlannedRun:
    """A run of a sweep.

    Arguments:
        variant: name of its variant.
        seed: its seed.
        experiment: its experiment.
        overrides: the `--set` texts that turn the base file into this experiment.
        base: the base file.
        runs: the folder of run folders.
        needs: name of the run that trains its backbone, if it is another run.
    """

    variant: str
    seed: int
    experiment: Experiment
    overrides: tuple[str, ...]
    base: Path
    runs: Path
    needs: str | None = None

    @property
    def name(self) -> str:
        """Return the name of its run folder."""
        return self.experiment.name

    @property
    def folder(self) -> RunFolder:
        """Return its run folder, which need not exist yet."""
        return RunFolder(self.runs / self.name)

    @property
    def arguments(self) -> list[str]:
        """Return the arguments of `hebm` that start or resume the run."""
        sets = [part for text in self.overrides for part in ("--set", text)]
        return ["run", str(self.base), "--runs", str(self.runs), *sets]

    def to_json(self) -> dict[str, Any]:
        """Return a description of the run in JSON types."""
        own = {"name": self.name, "variant": self.variant, "seed": self.seed}
        return {**own, "folder": str(self.folder.path), "needs": self.needs}


def plan(sweep: Sweep, runs: str | Path = "runs") -> tuple[PlannedRun, ...]:
    """List the runs of a sweep seed by seed. Runs that train a backbone precede the runs that use it.

    Arguments:
        sweep: the sweep.
        runs: the folder of run folders.

    Raises `ConfigError` with all invalid changes of keys, before anything is built.
    """
    base = _loaded(sweep, ())
    experiments = _all_loaded(sweep)
    _require_different(experiments)
    own = [variant for variant in sweep.variants if experiments[variant.name] == base]
    first = own[0] if own else Variant(BACKBONE, sweep.seeds, ())
    sharing = {name for name, experiment in experiments.items() if name != first.name and _shares(experiment, base)}
    if not own and BACKBONE in experiments and sharing:
        raise ConfigError(
            f"{sweep.file}: variants.{BACKBONE}: the base file's own run has this name; choose another one"
        )
    planning = _Planning(sweep, Path(runs))
    return tuple(planning.runs(first, base, experiments, sharing))


@attrs.frozen
class _Planning:
    sweep: Sweep
    folder: Path

    def runs(
        self, first: Variant, base: Experiment, experiments: dict[str, Experiment], sharing: set[str]
    ) -> Iterator[PlannedRun]:
        for seed in self.sweep.seeds:
            taking = [v for v in self.sweep.variants if v.name in sharing and seed in v.seeds]
            if taking or (first.name in experiments and seed in first.seeds):
                yield self.run(first, seed, base)
            for variant in self.sweep.variants:
                if variant.name != first.name and seed in variant.seeds:
                    origin = self.name(first.name, seed) if variant in taking else None
                    yield self.run(variant, seed, experiments[variant.name], origin)

    def name(self, variant: str, seed: int) -> str:
        return f"{self.sweep.name}-{variant}-{seed}"

    def run(self, variant: Variant, seed: int, experiment: Experiment, needs: str | None = None) -> PlannedRun:
        name = self.name(variant.name, seed)
        every = (*self.sweep.shared, *variant.overrides, *self.sweep.changes)
        texts = [f"{dotted(override.path)}={inline(override.value)}" for override in every]
        texts += [f"name={inline(name)}", f"seed={seed}"]
        changes: dict[str, Any] = {"name": name, "seed": seed}
        if needs is not None:
            origin = str(self.folder / needs)
            texts.append(f"train.backbone_from={inline(origin)}")
            changes["train"] = attrs.evolve(experiment.train, backbone_from=origin)  # type: ignore[misc]
        try:
            made = attrs.evolve(experiment, **changes)  # type: ignore[misc]
        except ConfigError as error:
            raise ConfigError(f"{self.sweep.file}: variants.{variant.name}: {error}") from None
        return PlannedRun(variant.name, seed, made, tuple(texts), self.sweep.base, self.folder, needs)


def _loaded(sweep: Sweep, overrides: Sequence[Override]) -> Experiment:
    """Return the experiment of the base file with changes. Raises the errors of `Experiment.load`."""
    return Experiment.load(sweep.base, (*sweep.shared, *overrides, *sweep.changes))


def _all_loaded(sweep: Sweep) -> dict[str, Experiment]:
    """Return the experiment of each variant by name. Raises `ConfigError` with the problems of all variants."""
    found, complaints = {}, []
    for variant in sweep.variants:
        try:
            found[variant.name] = _loaded(sweep, variant.overrides)
        except ConfigError as error:
            complaints.append(f"variant {variant.name!r}: {error}")
    if complaints:
        raise ConfigError("\n".join(complaints))
    return found


def _require_different(experiments: dict[str, Experiment]) -> None:
    """Raise `ConfigError` if two variants are the same experiment, which would be trained twice."""
    seen: list[tuple[str, Experiment]] = []
    for name, experiment in experiments.items():
        same = next((other for other, theirs in seen if theirs == experiment), None)
        if same is not None:
            raise ConfigError(f"variants {same!r} and {name!r} are the same experiment; leave one of them out")
        seen.append((name, experiment))


def _shares(experiment: Experiment, base: Experiment) -> bool:
    """Return whether a variant can use the backbone of the base file's run, and does not name another one."""
    if type(experiment.train) is not type(base.train) or experiment.backbone != base.backbone:
        return False
    names = {field.name for field in fields_of(type(base.train))}
    if "backbone_from" not in names or {_origin(experiment), _origin(base)} != {None}:
        return False
    return _equal_but(experiment.train, base.train, _OF_PRIOR) and _equal_but(experiment.data, base.data, _READING)


def _origin(experiment: Experiment) -> str | None:
    found: str | None = getattr(experiment.train, "backbone_from", None)
    return found


def _equal_but(recipe: Any, other: Any, keys: Sequence[str]) -> bool:
    """Return whether two recipes of one class are equal except in these keys."""
    if type(recipe) is not type(other):
        return False
    names = [field.name for field in fields_of(type(recipe)) if field.name not in keys]
    return all(getattr(recipe, name) == getattr(other, name) for name in names)
