"""Read the queue of a SLURM cluster, and submit and cancel jobs. Jobs are submitted by `submitit`."""

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
"""States of ended jobs, which squeue may still list for a while."""

_SUBMITTED = "_submitted.pkl"


def require_slurm() -> None:
    """Raise `ConfigError` unless `submitit` is installed and SLURM's commands are available."""
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
        states: states of the waiting and running jobs by number, such as PENDING.
    """

    states: Mapping[str, str]

    @classmethod
    def read(cls) -> Queue:
        """Read the jobs from squeue. Raises `HebmError` with its message if it fails."""
        listed = _output(["squeue", "--noheader", "--format=%i %T", f"--user={getpass.getuser()}"])
        pairs = (line.split() for line in listed.splitlines() if line.strip())
        return cls({job: state for job, state in pairs if state not in _OVER})

    def job_in(self, folder: Path) -> str | None:
        """Return the number of the waiting or running job that was submitted from a folder, or None."""
        jobs = (path.name.removesuffix(f"{_SUBMITTED}") for path in folder.glob(f"*{_SUBMITTED}"))
        return next((job for job in jobs if job in self.states), None)


def submit(
    job: ClusterJob, name: str, folder: Path, settings: SlurmSettings, after: Sequence[str] = (), succeed: bool = True
) -> str:
    """Submit a job, and return its number.

    Arguments:
        job: the job.
        name: name of the job in squeue.
        folder: folder for submitit's script, pickles and logs.
        settings: resources to request from the cluster.
        after: numbers of the jobs to wait for.
        succeed: whether to cancel the job unless those jobs all succeed; otherwise it starts when they have ended.

    Raises `HebmError` with sbatch's message if it refuses the job.
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
        raise HebmError(f"sbatch refused the job of {name}: {said}\n{again}") from error


def cancel(job: str) -> None:
    """Cancel a job. Raises `HebmError` with scancel's message if it fails."""
    _output(["scancel", job])


def _parameters(settings: SlurmSettings, name: str) -> dict[str, Any]:
    """Return submitit's parameters of a job. Parameters for all clusters have no prefix "slurm_"."""
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
