"""Convert checkpoints of published code to run folders and back, for `hebm import` and `hebm export`.

An imported folder is a finished run, which can be sampled, evaluated and used as a backbone like any other. Other
content of the file stays in `imported/`, so that exporting gives back the same content.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
from torch import Tensor

from hebm import registry
from hebm.building import build
from hebm.config.experiment import Experiment
from hebm.config.overrides import Changes
from hebm.config.writing import to_table
from hebm.errors import CheckpointError, PluginError
from hebm.imported_changes import changed
from hebm.imported_run import LEFTOVERS, MOMENTS, PHASE, completed, write_run
from hebm.interfaces import ImageSpec
from hebm.model import Model
from hebm.store import checkpoints, foreign
from hebm.store.durable import discard, reporting, sync_folder, temporary_for
from hebm.store.lock import RunLock
from hebm.store.run_folder import RunFolder
from hebm.store.trees import flatten, rebuild
from hebm.stored_runs import StoredRun, read_run
from hebm.training.reached import planned
from hebm.training.state import averaged_weights, load_module


@attrs.frozen(eq=False)
class ConvertedCheckpoint:
    """A trained backbone, converted from the checkpoint of another code, or to be converted to one.

    Arguments:
        experiment: the settings of its training, as far as hebm can express them; the name is ignored.
        images: shape of the training images; their classes are unknown.
        backbone: its state dict. Entries that the other code lacks keep their initial values.
        moments: the optimiser's state by `"<parameter>/<moment>"`; empty if unknown.
        step: number of training steps.
        leftovers: all other content of the file, for export: plain values and tensors in collections. None for a run
            that was not imported.
        notes: notes for users, one line each.
    """

    experiment: Experiment
    images: ImageSpec
    backbone: Mapping[str, Tensor]
    moments: Mapping[str, Tensor] = attrs.field(factory=dict)
    step: int = 0
    leftovers: Any = None
    notes: tuple[str, ...] = ()


@attrs.frozen(eq=False)
class ForeignFile:
    """A file of another code.

    Arguments:
        name: its name without its folder, such as "checkpoint.pt".
        content: the text of a text file (`hebm.store.foreign.TEXT` lists the suffixes); of any other file what
            `torch.save` wrote, as plain values and tensors on the CPU.
    """

    name: str
    content: Any


class CheckpointFormat(ABC):
    """The checkpoint format of a published code, registered in the group `hebm_formats`. It never accesses files.

    The fields of its recipe are the options of `hebm import`; all have defaults.
    """

    group: ClassVar[str] = "hebm_formats"
    allowed: ClassVar[tuple[type, ...]] = ()
    """Classes in its files besides tensors and plain containers. Constructing them must be harmless."""

    @abstractmethod
    def read(self, files: tuple[ForeignFile, ...]) -> ConvertedCheckpoint:
        """Convert the files of one checkpoint to a hebm backbone.

        A format of one file calls `only_file`. Raises `CheckpointError` with a list of all mismatches.
        """

    @abstractmethod
    def write(self, converted: ConvertedCheckpoint) -> ForeignFile:
        """Convert a backbone to the file with its weights, which must be equal to the file that was read, bit for bit.

        The name is the one that the published code gives to the file. Raises `CheckpointError` if the format cannot
        express the backbone.
        """

    def reading(self, converted: ConvertedCheckpoint) -> CheckpointFormat:
        """Return this format with the options that reading the file of `write` needs; by default it needs none."""
        return self

    def example(self) -> tuple[Experiment, ImageSpec] | None:
        """Return a small experiment that the format can express, and the shape of its images.

        `hebm.testing` builds this backbone, writes it in this format and reads it back.
        """
        return None


def only_file(files: Sequence[ForeignFile]) -> ForeignFile:
    """Return the one file of a format that reads one file. Raises `CheckpointError` for none and for several."""
    if len(files) != 1:
        names = f" ({', '.join(file.name for file in files)})" if files else ""
        raise CheckpointError(f"this format reads one file, but {len(files)} were given{names}; give the checkpoint")
    return files[0]


@attrs.frozen(eq=False)
class Imported:
    """The result of an import: the run folder, the model in it, and the converted checkpoint."""

    folder: RunFolder
    model: Model
    converted: ConvertedCheckpoint


def import_checkpoint(
    format: CheckpointFormat | str, files: Path | Sequence[Path], target: Path, changes: Changes = ()
) -> Imported:
    """Make a run folder from a published checkpoint. It writes nothing unless everything fits.

    Arguments:
        format: the format with its options, such as `hebm.NVAECheckpoint()`, or its name in the group `hebm_formats`.
        files: the file of the checkpoint, or its files.
        target: the run folder, which must not exist; its last part names the run.
        changes: changes of the run's configuration, such as `data.root`, as for `--set`.

    Raises `CheckpointError` for files that do not fit, `PluginError` for an unknown format or one whose experiment has
    another number of steps than the checkpoint, and `ConfigError` for an invalid folder name or changes that do not fit
    the weights.
    """
    name, kind = _named(format)
    if os.path.lexists(target):
        raise CheckpointError(f"{target} exists already; give another folder, or remove it first")
    notes: list[str] = []
    converted = kind.read(_loaded([files] if isinstance(files, Path) else files, kind, notes))
    left = flatten(converted.leftovers)
    named = Experiment.from_table({**to_table(converted.experiment), "name": target.resolve().name})
    model = build(named, converted.images)
    require_trained(name, converted, model)
    experiment, more = changed(named, converted.images, changes)
    converted = attrs.evolve(converted, experiment=experiment, notes=(*converted.notes, *notes, *more))
    if experiment != named:
        model = build(experiment, converted.images)
    load_module(model.backbone, completed(model.backbone, converted.backbone), "backbone")
    with reporting(f"write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_for(target)
        try:
            temporary.mkdir()
            with RunLock(temporary):
                write_run(RunFolder(temporary), name, converted, model, left)
            os.rename(temporary, target)
        except (OSError, CheckpointError):
            discard(temporary)
            raise
        sync_folder(target.parent)
    return Imported(RunFolder(target), model, converted)


def _named(format: CheckpointFormat | str) -> tuple[str, CheckpointFormat]:
    """Return the registered name of a format, and its recipe."""
    if isinstance(format, str):
        return format, registry.find("hebm_formats", format)()
    return registry.name_of(format), format


def _loaded(paths: Sequence[Path], kind: CheckpointFormat, notes: list[str]) -> tuple[ForeignFile, ...]:
    """Read files, and add notes; those on one of several files name it."""

    def load(path: Path) -> ForeignFile:
        said: list[str] = []
        file = ForeignFile(path.name, foreign.read(path, kind.allowed, said.append))
        notes.extend(f"{path.name}: {line}" if len(paths) > 1 else line for line in said)
        return file

    return tuple(map(load, paths))


def require_trained(name: str, converted: ConvertedCheckpoint, model: Model) -> None:
    """Raise `PluginError` unless the experiment's training ends at the step of the file.

    Arguments:
        name: the format's name.
        converted: the result of the format's `read`.
        model: the model of the experiment.
    """
    plan = planned(converted.experiment.train.phases(model.backbone, model.prior))
    if plan != {PHASE: converted.step}:
        raise PluginError(
            f"format {name!r}: its experiment trains {plan}, but the file is at step {converted.step}; give the "
            f"experiment one phase {PHASE!r} of that number of steps"
        )


@attrs.frozen(eq=False)
class Exported:
    """The result of an export: the file, what was written to it, and the format with the options that read it."""

    path: Path
    converted: ConvertedCheckpoint
    reader: CheckpointFormat


def export_checkpoint(
    format: CheckpointFormat | str, run: Path, target: Path, warn: Callable[[str], None] = lambda _: None
) -> Exported:
    """Write a run's backbone as a checkpoint of a published code, with averaged weights if the run keeps them.

    Arguments:
        format: the format, or its name in the group `hebm_formats`.
        run: the run folder, imported or trained by hebm.
        target: the file, which must not exist; or an existing folder, in which it gets the published code's name.
        warn: called with a message about each damaged checkpoint that was skipped.

    Raises `CheckpointError` if the run has no usable checkpoint or the format cannot express it.
    """
    name, kind = _named(format)
    opened = read_run(run, warn=warn, allow_unfinished=True)
    checkpoint = opened.checkpoint()
    converted = ConvertedCheckpoint(
        opened.written,
        opened.images,
        averaged_weights(checkpoint.tensors, "backbone"),
        checkpoint.tensors.get(MOMENTS, {}),
        checkpoint.total_step,
        _leftovers(opened, name),
    )
    file, reader = kind.write(converted), kind.reading(converted)
    path = target / file.name if target.is_dir() else target
    foreign.save(file.content, path)
    return Exported(path, converted, reader)


def _leftovers(run: StoredRun, name: str) -> Any:
    """Return the leftovers of an import in this format, or None."""
    kept = checkpoints.load_latest(run.folder.imported, run.run_id, run.warn)
    if kept is None or kept.state["format"] != name:
        return None
    return rebuild(kept.state["tree"], kept.tensors[LEFTOVERS])
