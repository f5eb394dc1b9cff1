"""Lock a run folder to start, resume or extend its run, or to reopen it when finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import attrs
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from hebm import messages
from hebm.building import accelerated
from hebm.config.writing import dumps
from hebm.errors import CheckpointError, HebmError
from hebm.pipeline import Assembly, assemble
from hebm.store.changes import config_changes
from hebm.store.checkpoints import newest_head
from hebm.store.durable import reporting
from hebm.store.lock import RunLock
from hebm.store.metrics import MetricsLog
from hebm.store.run_folder import RunFolder, differences_error
from hebm.stored_runs import StoredRun, read_run
from hebm.thread_times import measured_threads
from hebm.threads import AUTO, machine_threads, use_threads
from hebm.training.extension import Extension, go_back, step_keys
from hebm.training.reached import planned, reached
from hebm.training.saved_state import saved_state

T = TypeVar("T")

RunStage = Literal["untrained", "trained", "measured"]
"""The stage of a run that is opened for training."""


@contextmanager
def locked_for_training(
    folder: RunFolder,
    assembly: Assembly,
    accelerator: Accelerator,
    allow: bool,
    extend: Callable[[str], None] | None = None,
    measures: bool = False,
) -> Iterator[tuple[str, RunStage]]:
    """Start or resume a run while the main process locks its folder; yield its id and stage.

    A run whose training is finished does not change; its measurements stay until new ones replace them.

    Arguments:
        folder: the run folder.
        assembly: the experiment to train.
        accelerator: devices and processes.
        allow: continue even if configuration, data or versions changed.
        extend: train with more steps; called with a message about where training continues. None resumes without more
            steps.
        measures: the run is measured afterwards, which records changes together with the new measurements.

    An error of the main process is raised on every process.
    """

    def identify() -> tuple[str, RunStage]:
        return _finished(folder, assembly, allow, measures and extend is None) or _started(
            folder, assembly, accelerator, allow, extend
        )

    with _held(folder, accelerator, identify) as found:
        if assembly.experiment.run.threads == AUTO:
            use_threads(AUTO, folder.read().manifest.get("threads"))
        yield found


@contextmanager
def _held(folder: RunFolder, accelerator: Accelerator, prepare: Callable[[], T]) -> Iterator[T]:
    """Lock the folder on the main process and call `prepare` there; yield its result, or raise its error, on all."""
    lock = RunLock(folder.path)
    answer: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            folder.create()
            lock.__enter__()
            folder.tidy()
            answer = [prepare(), None]
        except HebmError as error:
            answer = [None, error]
        except BaseException:
            lock.__exit__(None, None, None)
            raise
    answer = broadcast_object_list(answer) if accelerator.num_processes > 1 else answer
    if answer[1] is not None:
        lock.__exit__(None, None, None)
        raise answer[1]
    try:
        yield answer[0]
    finally:
        lock.__exit__(None, None, None)


def _finished(folder: RunFolder, assembly: Assembly, allow: bool, changed_too: bool) -> tuple[str, RunStage] | None:
    """Return id and stage of a run that has nothing left to train; None for any other run.

    It writes nothing, so measurements stay.

    Arguments:
        folder: the run folder.
        assembly: the requested experiment.
        allow: continue even if configuration, data or versions changed.
        changed_too: include a run whose configuration changed, if it has all steps of the requested experiment.

    Raises `CheckpointError` for changes that are not allowed.
    """
    if not folder.started:
        return None
    run, text = read_run(folder.path), dumps(assembly.written)
    if not run.plan or not run.reached().finished:
        return None
    if config_changes(run.contents.config, text) and not (changed_too and _has_all_steps(run, assembly)):
        return None
    _require_same(run, assembly, allow)
    measured = run.contents.config == text and run.contents.metrics is not None and folder.report.exists()
    return run.run_id, "measured" if measured else "trained"


def _has_all_steps(run: StoredRun, assembly: Assembly) -> bool:
    """Return whether the newest checkpoint is the end of the requested phases."""
    newest, plan = newest_head(run.folder.checkpoints, run.run_id), planned(assembly.phases)
    return newest is not None and list(plan) == list(run.plan) and reached(plan, newest).finished


def _started(
    folder: RunFolder,
    assembly: Assembly,
    accelerator: Accelerator,
    allow: bool,
    extend: Callable[[str], None] | None,
) -> tuple[str, RunStage]:
    """Start a run, or open one for further training, and remove its earlier measurements."""
    if extend is not None:
        allow |= _extend(folder, assembly, extend)
    manifest = folder.create_or_open(dumps(assembly.written), assembly.manifest, allow)
    if assembly.experiment.run.threads == AUTO and "threads" not in manifest:
        folder.record_threads(_chosen_threads(assembly, accelerator))
    with reporting(f"write {folder.path}"):
        folder.report.unlink(missing_ok=True)
    folder.forget_results()
    return str(manifest["run_id"]), "untrained"


def _chosen_threads(assembly: Assembly, accelerator: Accelerator) -> int:
    """Return the number of threads with which training is fastest; several processes divide the machine's threads."""
    if accelerator.num_processes > 1:
        return max(1, machine_threads() // int(accelerator.num_processes))
    times = measured_threads(assembly, accelerator)
    if times is None:
        return machine_threads()
    messages.note(f"run.threads: {times}; the run uses {times.best}")
    return times.best


@attrs.frozen(eq=False)
class FinishedRun:
    """A trained run with its data.

    Arguments:
        assembly: the experiment with the final weights, or with the newest weights of an unfinished run if allowed.
        seconds: the time of training.
        unfinished: how far training got, if it is not finished.
    """

    assembly: Assembly
    seconds: float
    unfinished: str


@contextmanager
def locked_when_finished(
    run: StoredRun, accelerator: Accelerator, allow: bool = False, measured: bool = True
) -> Iterator[FinishedRun]:
    """Open a trained run with its data and weights while its folder is locked. It writes nothing.

    Arguments:
        run: the run with the requested changes and whether it may be unfinished.
        accelerator: devices and processes.
        allow: continue even if the data or a plugin changed.
        measured: check the metrics, since they will be computed.

    Raises `CheckpointError` if training is not complete, or for changes that are not allowed.
    """
    run.require_finished()  # before anything is built or loaded
    assembly = assemble(run.written, accelerator.device, run.places, measured)
    with _held(run.folder, accelerator, lambda: _require_same(run, assembly, allow)):
        use_threads(assembly.experiment.run.threads, run.manifest.get("threads"))
        checkpoint = run.restore(assembly.model)
        yield FinishedRun(assembly, saved_state(checkpoint).seconds, run.unfinished(checkpoint))


def _require_same(run: StoredRun, assembly: Assembly, allow: bool) -> None:
    """Raise `CheckpointError` with the differences from the run in the folder, unless they are allowed."""
    changes = run.folder.changes(run.contents, dumps(assembly.written), assembly.manifest)
    if changes and not allow:
        raise CheckpointError(differences_error(run.folder.path, changes))


def _extend(folder: RunFolder, assembly: Assembly, say: Callable[[str], None]) -> bool:
    """Go back to the last checkpoint that the longer run would also reach; return whether only steps differ.

    Raises `ConfigError` with the key that forbids it, and `CheckpointError` for other differences.
    """
    run = read_run(folder.path)
    changes = folder.changes(run.contents, dumps(assembly.written), assembly.manifest)
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
