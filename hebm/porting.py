"""Run folders from the checkpoints of published code, and back: what `hebm import` and `hebm export` do.

An imported folder is a run whose training is over: it is sampled, evaluated and built upon like any other. What the
file held besides the weights stays in `imported/`, so that exporting gives back the same content.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
from torch import Tensor, nn

from hebm import registry
from hebm.building import build
from hebm.config.components import distributions
from hebm.config.experiment import Experiment
from hebm.config.overrides import Changes
from hebm.config.writing import dumps, to_table
from hebm.errors import CheckpointError, PluginError
from hebm.imported_changes import changed
from hebm.interfaces import ImageSpec
from hebm.model import Model
from hebm.store import checkpoints, foreign
from hebm.store.checkpoints import Checkpoint
from hebm.store.durable import discard, reporting, sync_folder, temporary_for
from hebm.store.lock import RunLock
from hebm.store.provenance import describe_images, describe_run
from hebm.store.run_folder import RunFolder
from hebm.store.trees import flatten, rebuild
from hebm.stored_runs import StoredRun, read_run
from hebm.training.plateau import Plateau
from hebm.training.reached import planned
from hebm.training.state import averaged_weights, load_module

PHASE = "backbone"
"""The phase of scheme two-phase whose end an imported checkpoint is."""

MOMENTS = f"optimizer-{PHASE}"
LEFTOVERS = "leftovers"


@attrs.frozen(eq=False)
class ConvertedCheckpoint:
    """A trained backbone as it is converted from the checkpoint of another code, or to it.

    Arguments:
        experiment: what it was trained as, as far as that can be said here; its name does not count.
        images: shape of the images it was trained on; their classes are unknown.
        backbone: its state dict; entries that the other code does not have keep their initial values.
        moments: the optimiser's state, `"<parameter>/<moment>"`; empty if it is not known.
        step: training steps that were taken.
        leftovers: all else that the file holds, so that it can be written back: plain values and tensors, in
            collections; None for a run that came from no file.
        notes: what a user should know, a line each.
    """

    experiment: Experiment
    images: ImageSpec
    backbone: Mapping[str, Tensor]
    moments: Mapping[str, Tensor] = attrs.field(factory=dict)
    step: int = 0
    leftovers: Any = None
    notes: tuple[str, ...] = ()


class CheckpointFormat(ABC):
    """Group `hebm_formats`: the checkpoints of a published code. It never touches files."""

    group: ClassVar[str] = "hebm_formats"
    allowed: ClassVar[tuple[type, ...]] = ()
    """Classes besides tensors and plain containers that its files hold; they must be harmless to construct."""

    @abstractmethod
    def read(self, content: Any) -> ConvertedCheckpoint:
        """Convert a file's content to this project's terms. Raises `CheckpointError` listing all that does not fit."""

    @abstractmethod
    def write(self, converted: ConvertedCheckpoint) -> Any:
        """Convert a run to the other code's terms: given what `read` gave, the same content, bit for bit.

        Raises `CheckpointError` for what the other code cannot express.
        """

    def example(self) -> tuple[Experiment, ImageSpec] | None:
        """Return a small experiment that the other code can express, and the images it is trained on.

        `hebm.testing` builds its backbone, writes it in this format and reads it back.
        """
        return None


@attrs.frozen(eq=False)
class Imported:
    """What an import made: the folder, the model it holds, and what was read."""

    folder: RunFolder
    model: Model
    converted: ConvertedCheckpoint


def import_checkpoint(name: str, source: Path, target: Path, changes: Changes = ()) -> Imported:
    """Make a run folder of a published checkpoint; nothing is written unless everything fits.

    Arguments:
        name: of the format, in group `hebm_formats`.
        source: the file.
        target: the run folder, which must not exist; its last part names the run.
        changes: keys of the run's configuration that are other than the file says, such as `data.root`; as `--set`.

    Raises `CheckpointError` for a file that does not fit, `PluginError` for an unknown format and for one whose
    experiments do not end where the file does, `ConfigError` for a folder's name that no run may have and for changes
    that do not fit the weights.
    """
    kind: CheckpointFormat = registry.find("hebm_formats", name)()
    if os.path.lexists(target):
        raise CheckpointError(f"{target} exists already; give another folder, or remove it first")
    notes: list[str] = []
    converted = kind.read(foreign.load(source, kind.allowed, notes.append))
    left = flatten(converted.leftovers)
    named = Experiment.from_table({**to_table(converted.experiment), "name": target.resolve().name})
    model = build(named, converted.images)
    require_trained(name, converted, model)
    experiment, more = changed(named, converted.images, changes)
    converted = attrs.evolve(converted, experiment=experiment, notes=(*converted.notes, *notes, *more))
    if experiment != named:
        model = build(experiment, converted.images)
    load_module(model.backbone, _completed(model.backbone, converted.backbone), "backbone")
    with reporting(f"write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_for(target)
        try:
            temporary.mkdir()
            with RunLock(temporary):
                _write(RunFolder(temporary), name, converted, model, left)
            os.rename(temporary, target)
        except (OSError, CheckpointError):
            discard(temporary)
            raise
        sync_folder(target.parent)
    return Imported(RunFolder(target), model, converted)


def require_trained(name: str, converted: ConvertedCheckpoint, model: Model) -> None:
    """Raise `PluginError` unless the experiment's training is over at the step of the file.

    Arguments:
        name: of the format.
        converted: what the format read.
        model: built from its experiment.
    """
    plan = planned(converted.experiment.train.phases(model.backbone, model.prior))
    if plan != {PHASE: converted.step}:
        raise PluginError(
            f"format {name!r}: its experiment trains {plan}, but the file is at step {converted.step}; give the "
            f"experiment one phase {PHASE!r} of that number of steps"
        )


def _completed(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the initial values of buffers that the other code does not have."""
    parameters = dict(backbone.named_parameters())
    initial = {name: value for name, value in backbone.state_dict().items() if name not in parameters}
    return {**initial, **tensors}


def _write(
    folder: RunFolder, name: str, converted: ConvertedCheckpoint, model: Model, left: tuple[Any, Mapping[str, Tensor]]
) -> None:
    experiment, images = converted.experiment, converted.images
    manifest = {
        **describe_run(distributions(experiment) | _owner(name), None),  # null: no images have been seen
        "images": describe_images(images),
        "phases": planned(experiment.train.phases(model.backbone, model.prior)),
    }
    run_id = folder.create_or_open(dumps(experiment), manifest)["run_id"]
    rest = Checkpoint("imported", 0, converted.step, {LEFTOVERS: left[1]}, {"format": name, "tree": left[0]})
    checkpoints.save(folder.imported, rest, 2, run_id)
    weights: dict[str, Mapping[str, Tensor]] = {
        "backbone": _completed(model.backbone, converted.backbone),
        "prior": model.prior.state_dict(),
        MOMENTS: converted.moments,
    }
    state = {
        "finished": True,
        "skipped": 0,
        "in_a_row": 0,
        "plateau": attrs.asdict(Plateau(0)),
        "counts": {},
        "total_used": True,
        "seconds": 0.0,
    }
    checkpoints.save(folder.checkpoints, Checkpoint(PHASE, converted.step, converted.step, weights, state), 2, run_id)


def _owner(name: str) -> set[str]:
    distribution = registry.origin("hebm_formats", name).distribution
    return {distribution} if distribution else set()


def export_checkpoint(
    name: str, run: Path, target: Path, warn: Callable[[str], None] = lambda _: None
) -> ConvertedCheckpoint:
    """Write a run's backbone as the checkpoint of a published code; averaged weights where the run keeps them.

    Arguments:
        name: of the format, in group `hebm_formats`.
        run: the run folder, imported or trained here.
        target: the file, which must not exist.
        warn: told of damaged checkpoints that were passed over.

    Raises `CheckpointError` if there is no usable checkpoint or the format cannot express the run.
    """
    kind: CheckpointFormat = registry.find("hebm_formats", name)()
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
    foreign.save(kind.write(converted), target)
    return converted


def _leftovers(run: StoredRun, name: str) -> Any:
    """Return what an import in this format left over, or None."""
    kept = checkpoints.load_latest(run.folder.imported, run.run_id, run.warn)
    if kept is None or kept.state["format"] != name:
        return None
    return rebuild(kept.state["tree"], kept.tensors[LEFTOVERS])
