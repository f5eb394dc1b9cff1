"""Run analyses of a finished run. Each writes a separate folder, which is either complete or absent."""

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
from hebm.config.overrides import Changes, Override, parse
from hebm.config.paths import located
from hebm.config.structure import structure_components
from hebm.config.writing import in_toml, to_table
from hebm.data.stored_pixels import storing_pixels
from hebm.errors import ConfigError, PluginError
from hebm.evaluation.evaluation import Evaluation
from hebm.store.durable import TEMPORARY, discard, remove, remove_unfinished, reporting, sync_folder
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import StoredRun
from hebm.training.listeners import Listener

GROUP = AnalysisRecipe.group


@attrs.frozen(eq=False)
class Opened:
    """A finished run whose lock is held.

    Arguments:
        evaluation: the evaluation of its model and data.
        folder: the run folder.
        conditions: conditions that are stored with every result.
    """

    evaluation: Evaluation
    folder: RunFolder
    conditions: Mapping[str, Any]


def split_changes(changes: Changes) -> tuple[tuple[Override, ...], tuple[Override, ...]]:
    """Separate changes of the run's tables from changes of analyses' options, such as `ood.images=500`.

    Raises `ConfigError` for a malformed change.
    """
    known, overrides = registry.names(GROUP), parse(changes)
    of_run = tuple(override for override in overrides if override.path[0] not in known)
    return of_run, tuple(override for override in overrides if override.path[0] in known)


def choose(names: Sequence[str], changes: Changes) -> dict[str, AnalysisRecipe]:
    """Build the named analyses with their options.

    Arguments:
        names: registered names.
        changes: changes of their options, by `NAME.KEY`.

    Raises `PluginError` for an unknown or broken analysis, and `ConfigError` for invalid options.
    """
    for name in names:
        registry.find(GROUP, name)
    overrides = parse(changes)
    document = Document("", "", in_toml(overrides))
    for override in document.overrides:
        if override.path[0] not in names:
            raise ConfigError(f"{override.source}: analysis {override.path[0]!r} is not selected; add it to the names")
        document.apply(override)
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
    """Open a finished run's model and data, and hold the folder's lock.

    Arguments:
        run: the stored run.
        changes: changes of its configuration; only keys that do not affect the weights are allowed.
        allow: continue although the images or a plugin have changed.
        listener: a listener that is called with the number of finished images.

    Raises `ConfigError` for other keys, and `CheckpointError` if training is unfinished or something has changed.
    """
    run = attrs.evolve(run, changes=changes)
    accelerator = pipeline.make_accelerator(run.written.run, run.folder.path)
    with locked_runs.locked_when_finished(run, accelerator, allow, measured=False) as trained:
        conditions = {"seed": run.written.seed, "hebm": run.manifest.get("hebm"), "run_id": run.run_id}
        listener = listener or Listener()
        evaluation = pipeline.make_evaluation(trained.assembly, accelerator, listener)
        try:
            with storing_pixels(trained.assembly.experiment.run):  # an analysis may load further data sets
                yield Opened(evaluation, run.folder, conditions)
        finally:
            listener.ended()


def analyse(run: Opened, name: str, recipe: AnalysisRecipe) -> Section:
    """Run one analysis, then replace its folder `analyses/NAME` as a whole.

    Raises `ConfigError` if the analysis does not support the run, and `CheckpointError` if the folder cannot be
    written.
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
    """Yield an empty temporary folder next to `folder`, and remove it afterwards. Also remove those of killed runs."""
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
    """Move a folder to a path, replacing an existing folder. Raises `OSError`."""
    old = path.with_name(f"{TEMPORARY}old-{path.name}-{os.getpid()}")
    sync_folder(new)
    if path.exists():
        remove(old)
        os.replace(path, old)
    os.replace(new, path)
    sync_folder(path.parent)
    remove(old)


def available(changes: Changes = ()) -> tuple[dict[str, AnalysisRecipe], dict[str, str]]:
    """Return the registered analyses that can be loaded, and the errors of the others by name.

    Arguments:
        changes: changes of their options, by `NAME.KEY`.

    Raises `ConfigError` for invalid options.
    """
    broken: dict[str, str] = {}
    for name in registry.names(GROUP):
        try:
            registry.find(GROUP, name)
        except PluginError as error:
            broken[name] = str(error)
    return choose([name for name in registry.names(GROUP) if name not in broken], changes), broken
