"""The queue of a SLURM cluster: which jobs are there, and new ones. Jobs are submitted by `submitit`."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from hebm.config.slurm import SlurmSettings
from hebm.errors import ConfigError, HebmError
from hebm.sweeps.cluster_job import ClusterJob

_COMMANDS = ("sbatch", "srun", "squeue", "scancel")
_OVER = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT"),
)
"""States of jobs that squeue may list for a while although they have ended."""

_SUBMITTED = "_submitted.pkl"


def require_slurm() -> None:
    """Raise `ConfigError` unless `submitit` is installed and SLURM's commands are here."""
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise ConfigError("--slurm needs the package submitit; install it with  pip install 'hebm[slurm]'") from None
    missing = [name for name in _COMMANDS if shutil.which(name) is None]
    if missing:
        raise ConfigError(f"--slurm: {', '.join(missing)} not found; start this on a login node of a SLURM cluster")


@attrs.frozen(eq=False)
class Queue:
    """The user's jobs.

    Arguments:
        states: of the jobs that wait or run, such as PENDING, by number.
    """

    states: Mapping[str, str]

    @classmethod
    def read(cls) -> Queue:
        """Ask squeue. Raises `HebmError` with what it says if it fails."""
        listed = _output(["squeue", "--noheader", "--format=%i %T", f"--user={getpass.getuser()}"])
        pairs = (line.split() for line in listed.splitlines() if line.strip())
        return cls({job: state for job, state in pairs if state not in _OVER})

    def job_in(self, folder: Path) -> str | None:
        """Return the number of the job that was submitted from a folder, if it waits or runs."""
        jobs = (path.name.removesuffix(f"{_SUBMITTED}") for path in folder.glob(f"*{_SUBMITTED}"))
        return next((job for job in jobs if job in self.states), None)


def submit(
    job: ClusterJob, name: str, folder: Path, settings: SlurmSettings, after: Sequence[str] = (), succeed: bool = True
) -> str:
    """Put a job into the queue; return its number.

    Arguments:
        job: what it runs.
        name: what squeue shows.
        folder: where submitit keeps its script, its pickles and its logs.
        settings: what it asks of the cluster.
        after: the numbers of the jobs that it waits for.
        succeed: it is cancelled unless they all succeed; otherwise it starts once they have ended.

    Raises `HebmError` with what sbatch says if it refuses.
    """
    import submitit

    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=settings.max_num_timeout)
    additional: dict[str, Any] = {"requeue": True}
    if after:
        additional["dependency"] = f"{'afterok' if succeed else 'afterany'}:{':'.join(after)}"
        additional["kill-on-invalid-dep"] = "yes"
    additional |= settings.additional()
    try:
        executor.update_parameters(**_parameters(settings, name), slurm_additional_parameters=additional)
        return str(executor.submit(job).job_id)
    except (OSError, RuntimeError, ValueError, AssertionError, submitit.core.utils.FailedJobError) as error:
        said = str(error).strip()
        again = "jobs before it are in the queue; the same command, given again, goes on from there"
        raise HebmError(f"sbatch does not take the job of {name}: {said}\n{again}") from error


def cancel(job: str) -> None:
    """Take a job out of the queue. Raises `HebmError` with what scancel says if it fails."""
    _output(["scancel", job])


def _parameters(settings: SlurmSettings, name: str) -> dict[str, Any]:
    """Return the parameters of a job; those that submitit has for all clusters are without the prefix of SLURM's."""
    shared = ("cpus_per_task", "gpus_per_node")
    found = {k if k in shared else f"slurm_{k}": value for k, value in settings.parameters().items()}
    found |= {"name": name, "timeout_min": settings.timeout_min}
    return found if settings.mem_gb is None else {**found, "mem_gb": settings.mem_gb}


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except subprocess.CalledProcessError as error:
        raise HebmError(f"{command[0]} failed: {error.stderr.strip() or f'status {error.returncode}'}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HebmError(f"{command[0]} failed: {error}") from error
