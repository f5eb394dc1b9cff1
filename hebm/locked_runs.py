"""Hold a run folder while its run is trained or measured: start, resume or extend it, or reopen it when finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from hebm import registry
from hebm.config.paths import described as describe_paths
from hebm.config.recipe import fields_of, group_of
from hebm.config.writing import dumps
from hebm.errors import CheckpointError, HebmError
from hebm.model import accelerated
from hebm.pipeline import Assembly, assemble
from hebm.runs import Run, open_run
from hebm.store.durable import reporting
from hebm.store.lock import RunLock
from hebm.store.metrics import MetricsLog
from hebm.store.provenance import describe_images, describe_run
from hebm.store.run_folder import RunFolder, differences_error
from hebm.training.extension import Extension, go_back, step_keys


def distributions(recipe: Any) -> set[str]:
    """The distributions whose components a recipe names, at any depth."""
    found: set[str] = set()
    group = group_of(type(recipe))
    if group:
        origin = registry.origin(group, registry.name_of(type(recipe)))
        found |= {origin.distribution} if origin.distribution else set()
    for field in fields_of(type(recipe)):
        value = getattr(recipe, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            found |= distributions(part) if attrs.has(type(part)) else set()
    return found


@contextmanager
def locked_for_training(
    folder: RunFolder,
    assembly: Assembly,
    accelerator: Accelerator,
    allow: bool,
    extend: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, bool]]:
    """Start or resume a run, its folder held by the main process; yield (run id, whether it is finished already).

    Arguments:
        folder: of the run.
        assembly: what is to be trained.
        accelerator: devices and processes.
        allow: go on although configuration, data or versions changed.
        extend: more steps are asked for; told from where training goes on.

    Raises on every process what the main process met.
    """
    lock = RunLock(folder.path)
    answer: list[Any] = ["", False, None]
    if accelerator.is_main_process:
        try:
            folder.create()
            lock.__enter__()
            answer = [*_identify(folder, assembly, allow, extend), None]
        except HebmError as error:
            answer = ["", False, error]
        except BaseException:
            lock.__exit__(None, None, None)
            raise
    answer = broadcast_object_list(answer) if accelerator.num_processes > 1 else answer
    if answer[2] is not None:
        lock.__exit__(None, None, None)
        raise answer[2]
    try:
        yield str(answer[0]), bool(answer[1])
    finally:
        lock.__exit__(None, None, None)


def _identify(
    folder: RunFolder, assembly: Assembly, allow: bool, extend: Callable[[str], None] | None
) -> tuple[str, bool]:
    text = dumps(assembly.written)
    before = folder.read() if folder.started else None
    if extend is not None:
        allow |= _extend(folder, assembly, extend)
    finished = before is not None and before.config == text and before.metrics is not None and folder.report.exists()
    run_id = folder.create_or_open(text, described(assembly), allow)["run_id"]
    if not finished:
        with reporting(f"write {folder.path}"):
            folder.report.unlink(missing_ok=True)
        if folder.metrics.exists():
            folder.write_metrics(None)
    return run_id, finished


def described(assembly: Assembly) -> dict[str, Any]:
    """Return the manifest of a run that starts here and now."""
    fingerprints = {split: images.fingerprint() for split, images in assembly.images.items()}
    return {
        **describe_run(distributions(assembly.experiment), fingerprints),
        "images": describe_images(assembly.spec),
        "paths": describe_paths(assembly.written, assembly.experiment),
    }


@attrs.frozen(eq=False)
class FinishedRun:
    """A finished run with its data.

    Arguments:
        assembly: its model has the final weights.
        seconds: how long training took.
    """

    assembly: Assembly
    seconds: float


@contextmanager
def locked_when_finished(
    run: Run, accelerator: Accelerator, allow: bool = False, record: bool = False
) -> Iterator[FinishedRun]:
    """Hold a finished run with its data and its final weights, under the folder's lock.

    Arguments:
        run: opened, with the overrides that are wanted.
        accelerator: devices and processes.
        allow: go on although the data or a plugin changed.
        record: write the configuration with its overrides into the folder, because what is measured will be.

    Raises `CheckpointError` if training is not complete, or for changes that are not allowed.
    """
    assembly = assemble(run.written, accelerator.device, run.places)
    with locked_for_training(run.folder, assembly, accelerator, allow) if record else _locked(run, assembly, allow):
        yield FinishedRun(assembly, run.restore(assembly.model, assembly.phases))


@contextmanager
def _locked(run: Run, assembly: Assembly, allow: bool) -> Iterator[None]:
    with RunLock(run.folder.path):
        changes = run.folder.changes(run.contents, dumps(assembly.written), described(assembly))
        if changes and not allow:
            raise CheckpointError(differences_error(run.folder.path, changes))
        yield


def _extend(folder: RunFolder, assembly: Assembly, say: Callable[[str], None]) -> bool:
    """Go back to the last checkpoint from which the longer run would be the same; return whether only steps differ.

    Raises `ConfigError` that names the key which forbids it, `CheckpointError` for other differences.
    """
    run = open_run(folder.path)
    changes = folder.changes(run.contents, dumps(assembly.written), described(assembly))
    if not changes:  # it was extended before, and resumes
        return False
    keys = step_keys(run.written.train)
    others = [change for change in changes if change.partition(":")[0] not in keys]
    if others:
        raise CheckpointError(differences_error(folder.path, others))
    scheme = accelerated(run.written.train, run.written.run)
    before = scheme.phases(assembly.model.backbone, assembly.model.prior)
    extension = Extension(scheme, before, assembly.phases)
    place = go_back(folder, run.run_id, extension)
    total = place.total_step
    if total % assembly.experiment.run.log_every and extension.lengthens(place.phase):
        MetricsLog(folder.metrics_log).truncate_after(total - 1)  # logged only because it was the phase's last step
    say(f"extended from step {total}, phase {place.phase} (step {place.step}): {'; '.join(changes)}")
    return True
