"""Run analyses of a finished run, each into its own folder, which is complete or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from hebm import locked_runs, pipeline, registry
from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.section import Section
from hebm.config.document import Document
from hebm.config.live_values import with_recipe
from hebm.config.overrides import Changes, Override, assign, parse
from hebm.config.paths import located
from hebm.config.structure import structure_components
from hebm.config.writing import in_toml, to_table
from hebm.errors import ConfigError, PluginError
from hebm.evaluation.evaluation import Evaluation
from hebm.store.durable import TEMPORARY, discard, remove, remove_unfinished, reporting, sync_folder
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import StoredRun
from hebm.training.listeners import Listener

GROUP = AnalysisRecipe.group


@attrs.frozen(eq=False)
class Opened:
    """A finished run under its lock.

    Arguments:
        evaluation: its model together with its data.
        folder: where it lies.
        conditions: what every result depends on, stored with it.
    """

    evaluation: Evaluation
    folder: RunFolder
    conditions: Mapping[str, Any]


def split_changes(changes: Changes) -> tuple[tuple[Override, ...], tuple[Override, ...]]:
    """Separate changes of the run's own tables from analyses' (`ood.images=500`). Raises `ConfigError`."""
    known, overrides = registry.names(GROUP), parse(changes)
    of_run = tuple(override for override in overrides if override.path[0] not in known)
    return of_run, tuple(override for override in overrides if override.path[0] in known)


def choose(names: Sequence[str], changes: Changes) -> dict[str, AnalysisRecipe]:
    """Build the named analyses with their options.

    Arguments:
        names: as registered.
        changes: of their options, by `NAME.KEY`.

    Raises `PluginError` for an unknown or broken name, `ConfigError` for options that do not fit.
    """
    for name in names:
        registry.find(GROUP, name)
    overrides = parse(changes)
    document = Document("", "", in_toml(overrides))
    for override in document.overrides:
        if override.path[0] not in names:
            raise ConfigError(f"{override.source}: {override.path[0]!r} is not asked for; add it to the names")
        if assign(document.table, override):
            document.retyped.add(override.path[:-1])
    tables = {name: {**document.table.get(name, {}), "type": name} for name in names}
    made = structure_components(AnalysisRecipe, tables, document)
    for override in overrides:
        made[override.path[0]] = with_recipe(made[override.path[0]], override.path[1:], override.value)
    return {name: located(recipe, {}) for name, recipe in made.items()}


@contextmanager
def opened(
    run: StoredRun,
    changes: Changes = (),
    allow: bool = False,
    listener: Listener | None = None,
) -> Iterator[Opened]:
    """Hold a finished run's model and data, under the folder's lock.

    Arguments:
        run: the run as it was read.
        changes: of its configuration; only keys that did not decide the weights may be changed.
        allow: go on although the images or a plugin changed.
        listener: is told how many images are done.

    Raises `ConfigError` for other keys, `CheckpointError` if training is not complete or something changed.
    """
    run = attrs.evolve(run, changes=changes)
    accelerator = pipeline.make_accelerator(run.written.run, run.folder.path)
    with locked_runs.locked_when_finished(run, accelerator, allow, measured=False) as trained:
        conditions = {"seed": run.written.seed, "hebm": run.manifest.get("hebm"), "run_id": run.run_id}
        listener = listener or Listener()
        try:
            yield Opened(pipeline.make_evaluation(trained.assembly, accelerator, listener), run.folder, conditions)
        finally:
            listener.ended()


def analyse(run: Opened, name: str, recipe: AnalysisRecipe) -> Section:
    """Run one analysis; its folder `analyses/NAME` is replaced when all of it is there.

    Raises `ConfigError` with the reason if it refuses, `CheckpointError` if the folder cannot be written.
    """
    reason = recipe.unsupported(run.evaluation)
    if reason:
        raise ConfigError(f"{name}: {reason}")
    folder = run.folder.analyses / name
    with _scratch(folder) as scratch:
        section = recipe.run(run.evaluation, scratch)
        section.write(scratch, {**run.conditions, "options": to_table(recipe)})
        with reporting(f"write {folder}"):
            _replace_folder(scratch, folder)
    return section


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Yield an empty folder next to another one and remove it afterwards, with what killed processes left there."""
    scratch = folder.with_name(f"{TEMPORARY}{folder.name}-{os.getpid()}")
    with reporting(f"make {scratch}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder.parent)
        scratch.mkdir()
    try:
        yield scratch
    finally:
        discard(scratch)


def _replace_folder(new: Path, path: Path) -> None:
    """Put a whole folder where another may be. Raises `OSError`."""
    old = path.with_name(f"{TEMPORARY}old-{path.name}-{os.getpid()}")
    sync_folder(new)
    if path.exists():
        remove(old)
        os.replace(path, old)
    os.replace(new, path)
    sync_folder(path.parent)
    remove(old)


def available(changes: Changes = ()) -> tuple[dict[str, AnalysisRecipe], dict[str, str]]:
    """Return every registered analysis that can be loaded, and what is wrong with the others.

    Arguments:
        changes: of their options, by `NAME.KEY`.

    Raises `ConfigError` for options that do not fit.
    """
    broken: dict[str, str] = {}
    for name in registry.names(GROUP):
        try:
            registry.find(GROUP, name)
        except PluginError as error:
            broken[name] = str(error)
    return choose([name for name in registry.names(GROUP) if name not in broken], changes), broken
