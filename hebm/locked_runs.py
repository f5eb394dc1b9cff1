"""Hold a run folder while its run is trained or measured: start, resume or extend it, or reopen it when finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from hebm.building import accelerated
from hebm.config.components import distributions
from hebm.config.paths import described as describe_paths
from hebm.config.writing import dumps
from hebm.errors import CheckpointError, HebmError
from hebm.pipeline import Assembly, assemble
from hebm.store.durable import reporting
from hebm.store.lock import RunLock
from hebm.store.metrics import MetricsLog
from hebm.store.provenance import describe_images, describe_run
from hebm.store.run_folder import RunFolder, differences_error
from hebm.stored_runs import StoredRun, read_run
from hebm.training.extension import Extension, go_back, step_keys
from hebm.training.reached import planned


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
    finished = folder.started and _measured(folder, text)
    if extend is not None:
        allow |= _extend(folder, assembly, extend)
    run_id = folder.create_or_open(text, described(assembly), allow)["run_id"]
    if not finished:
        with reporting(f"write {folder.path}"):
            folder.report.unlink(missing_ok=True)
        if folder.metrics.exists():
            folder.write_metrics(None)
    return run_id, finished


def _measured(folder: RunFolder, text: str) -> bool:
    """Return whether a run of this configuration is trained, evaluated and reported."""
    run = read_run(folder.path)
    evaluated = run.contents.config == text and run.contents.metrics is not None and folder.report.exists()
    return evaluated and run.reached().finished


def described(assembly: Assembly) -> dict[str, Any]:
    """Return the manifest of a run that starts here and now."""
    fingerprints = {split: images.fingerprint() for split, images in assembly.images.items()}
    return {
        **describe_run(distributions(assembly.experiment), fingerprints),
        "images": describe_images(assembly.spec),
        "paths": describe_paths(assembly.written, assembly.experiment),
        "phases": planned(assembly.phases),
    }


@attrs.frozen(eq=False)
class FinishedRun:
    """A trained run with its data.

    Arguments:
        assembly: its model has the final weights, or those of an unfinished run that was allowed.
        seconds: how long training took.
        unfinished: the place that training has reached, if it is not over.
    """

    assembly: Assembly
    seconds: float
    unfinished: str


@contextmanager
def locked_when_finished(
    run: StoredRun, accelerator: Accelerator, allow: bool = False, record: bool = False
) -> Iterator[FinishedRun]:
    """Hold a trained run with its data and its weights, under the folder's lock.

    Arguments:
        run: with the changes that are wanted; it says whether it may be unfinished.
        accelerator: devices and processes.
        allow: go on although the data or a plugin changed.
        record: write the configuration with its changes into the folder, because what is measured will be.

    Raises `CheckpointError` if training is not complete, or for changes that are not allowed.
    """
    run.require_finished()  # before anything is built or loaded
    assembly = assemble(run.written, accelerator.device, run.places)
    with locked_for_training(run.folder, assembly, accelerator, allow) if record else _locked(run, assembly, allow):
        checkpoint = run.restore(assembly.model)
        yield FinishedRun(assembly, float(checkpoint.state["seconds"]), run.unfinished(checkpoint))


@contextmanager
def _locked(run: StoredRun, assembly: Assembly, allow: bool) -> Iterator[None]:
    with RunLock(run.folder.path):
        changes = run.folder.changes(run.contents, dumps(assembly.written), described(assembly))
        if changes and not allow:
            raise CheckpointError(differences_error(run.folder.path, changes))
        yield


def _extend(folder: RunFolder, assembly: Assembly, say: Callable[[str], None]) -> bool:
    """Go back to the last checkpoint from which the longer run would be the same; return whether only steps differ.

    Raises `ConfigError` that names the key which forbids it, `CheckpointError` for other differences.
    """
    run = read_run(folder.path)
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
