"""Run a sweep on a SLURM cluster, with one job per run and one for the table. Jobs wait for their backbone.

The only state is the files that submitit writes next to the runs. Runs that are neither finished, queued nor running
are submitted, so the same command resumes a sweep.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import attrs

from hebm import registry
from hebm.config.document import dotted
from hebm.config.overrides import Changes
from hebm.config.slurm import SlurmSettings
from hebm.config.sweep_file import Sweep
from hebm.config.writing import inline
from hebm.errors import HebmError
from hebm.progress import listener_of
from hebm.sweeps.cluster_job import ClusterJob
from hebm.sweeps.cluster_queue import Queue, cancel, require_slurm, submit
from hebm.sweeps.planning import PlannedRun
from hebm.sweeps.processes import LOG
from hebm.sweeps.running import SweepPlan, aligned_words

HEBM = (sys.executable, "-m", "hebm.cli.main")
THREADS = "OMP_NUM_THREADS"
TABLE = "table"
"""Name of the folder of the job that writes the table, next to the folders of the runs."""

State = Literal["finished", "queued", "running", "submitted", "to submit"]


@attrs.frozen(eq=False)
class QueuedRun:
    """A run of a sweep on a cluster.

    Arguments:
        run: the run.
        state: finished; queued or running from an earlier call; submitted now; or to submit.
        job: number of its job; None if it is finished or not submitted.
    """

    run: PlannedRun
    state: State
    job: str | None = None


@attrs.frozen(eq=False)
class Submission:
    """The runs of a sweep on a cluster.

    Arguments:
        runs: the runs, each after the one that trains its backbone.
        table: number of the job that writes the table when all others have ended; None if all are finished.
        log: the log of that job.
    """

    runs: tuple[QueuedRun, ...]
    table: str | None
    log: Path | None

    @property
    def finished(self) -> bool:
        """Whether all runs are finished."""
        return all(queued.state == "finished" for queued in self.runs)

    def __str__(self) -> str:
        rows = [(one.run.name, one.run.needs or "–", one.state, one.job or "–") for one in self.runs]
        lines = aligned_words([("run", "takes the backbone of", "is", "job"), *rows])
        if self.table is not None:
            lines.append(f"the table: job {self.table}, which prints it to {self.log}")
            lines.append("`squeue --me` shows how far they are; start the same command again to submit what failed")
        return "\n".join(lines)


def folder_of(plan: SweepPlan) -> Path:
    """Return the folder of submitit's files of a sweep."""
    return plan.runs / f"{plan.sweep.name}.slurm"


def queued(plan: SweepPlan) -> tuple[QueuedRun, ...]:
    """Return the state of each run: finished, queued or to submit. Raises `ConfigError` without SLURM."""
    require_slurm()
    return _queued(plan, Queue.read())


def _queued(plan: SweepPlan, queue: Queue) -> tuple[QueuedRun, ...]:
    found = []
    for run in plan.planned:
        job = queue.job_in(folder_of(plan) / run.name)
        state: State = "finished" if plan.stages[run.name] == "finished" else "to submit"
        if job is not None:
            state = "running" if queue.states[job] == "RUNNING" else "queued"
        found.append(QueuedRun(run, state, job))
    return tuple(found)


def submit_sweep(
    file: str | Path, changes: Changes = (), *, runs: str | Path = "runs", progress: bool = True
) -> Submission:
    """Submit a sweep to a SLURM cluster, like `hebm sweep --slurm`. Another call submits the remaining runs.

    Arguments:
        file: the sweep file, whose table `slurm` sets the resources of each job.
        changes: changes of every run: values by dotted key, or `--set` texts; `slurm.…` changes the table `slurm`.
        runs: the folder of run folders.
        progress: report on the error stream when a job is submitted.

    Raises:
        ConfigError: with all problems, or without submitit or SLURM's commands.
        HebmError: if sbatch refuses a job. Earlier jobs stay in the queue and are not submitted again.

    Example:
        print(hebm.submit_sweep("benchmarks/sweeps/priors-mnist.toml", {"slurm.gpus_per_node": 1}))
    """
    say = listener_of(progress).said if progress else lambda line: None
    return submitted(SweepPlan.of(Sweep.load(file, changes), runs), say)


def submitted(
    plan: SweepPlan, say: Callable[[str], None] = lambda line: None, against: Path | None = None
) -> Submission:
    """Submit all runs that are neither finished nor queued, and a job for the table after all of them.

    Arguments:
        plan: the plan of the sweep.
        say: called with a line for each job.
        against: earlier measurements with which the table's job compares the runs.

    Raises:
        ConfigError: without submitit or SLURM's commands.
        HebmError: if sbatch refuses a job. Earlier jobs stay in the queue and are not submitted again.
    """
    require_slurm()
    queue = Queue.read()
    jobs: dict[str, str] = {}
    found = []
    for before in _queued(plan, queue):
        now = before
        if before.state == "to submit":
            now = QueuedRun(before.run, "submitted", _submitted(plan, before.run, jobs.get(before.run.needs or "")))
            say(f"submitted {now.run.name}: job {now.job}")
        if now.job is not None:
            jobs[now.run.name] = now.job
        found.append(now)
    runs = tuple(found)
    own = folder_of(plan) / TABLE
    last = queue.job_in(own)
    if any(run.state == "submitted" for run in runs) or (jobs and last is None):
        last = _table(plan, _arguments(plan, against), list(jobs.values()), last)
        say(f"submitted the table: job {last}")
    return Submission(runs, last, None if last is None else own / f"{last}_0_log.out")


def _submitted(plan: SweepPlan, run: PlannedRun, needs: str | None) -> str:
    needed = any(other.needs == run.name for other in plan.planned)
    job = ClusterJob(
        (*HEBM, *run.arguments),
        tuple(run.arguments),
        (run.folder.path / LOG).absolute(),
        Path.cwd(),
        _variables(plan.sweep.slurm),
        run.folder.path.absolute() if needed else None,
    )
    after = [needs] if needs is not None and plan.stages[run.needs or ""] not in ("trained", "finished") else []
    return submit(job, run.name, folder_of(plan) / run.name, plan.sweep.slurm, after)


def _arguments(plan: SweepPlan, against: Path | None) -> list[str]:
    """Return the arguments of `hebm` that show the table of a sweep."""
    changes = (f"{dotted(change.path)}={inline(change.value)}" for change in plan.sweep.changes)
    sets = [part for text in changes for part in ("--set", text)]
    held = [] if against is None else ["--against", str(against)]
    return ["sweep", plan.sweep.file, "--runs", str(plan.runs), *sets, "--table", *held]


def _table(plan: SweepPlan, arguments: Sequence[str], after: Sequence[str], before: str | None) -> str:
    """Submit the job of the table, and cancel an earlier one that waits for fewer runs."""
    if before is not None:
        try:
            cancel(before)
        except HebmError:  # it has ended meanwhile
            pass
    job = ClusterJob((*HEBM, *arguments), tuple(arguments), None, Path.cwd(), _variables(plan.sweep.slurm))
    settings = attrs.evolve(plan.sweep.slurm, timeout_min=min(plan.sweep.slurm.timeout_min, 30))  # type: ignore[misc]
    return submit(job, f"{plan.sweep.name}-{TABLE}", folder_of(plan) / TABLE, settings, after, succeed=False)


def _variables(settings: SlurmSettings) -> dict[str, str]:
    """Return the environment variables of a job: one thread per core, unless the user sets them."""
    found = {registry.BLOCK_VARIABLE: ",".join(registry.blocked())}
    if settings.cpus_per_task is not None and THREADS not in os.environ:
        found[THREADS] = str(settings.cpus_per_task)
    return found
