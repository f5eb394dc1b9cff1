"""The table `[slurm]` of a sweep file: what each run asks of a SLURM cluster."""

from __future__ import annotations

from typing import Any

from hebm.config.recipes import option, recipe

_GIVEN = ("partition", "account", "qos", "constraint", "nodelist", "exclude", "gres", "cpus_per_task", "gpus_per_node")
"""Options of sbatch under their own names, which are left out unless they are given."""


@recipe
class SlurmSettings:
    """What the job of each run asks of the cluster; keys have the names of submitit, or of sbatch's options."""

    partition: str | None = option(None, doc="partition, or several with commas; that of the cluster if left out")
    account: str | None = option(None, doc="account that is charged")
    qos: str | None = option(None, doc="quality of service")
    constraint: str | None = option(None, doc='features that a node must have, such as "a100|h100"')
    nodelist: str | None = option(None, doc="nodes to use")
    exclude: str | None = option(None, doc="nodes not to use")
    gres: str | None = option(None, doc='generic resources, such as "gpu:a100:1"; instead of gpus_per_node')
    cpus_per_task: int | None = option(None, low=1, doc="processor cores of each run")
    gpus_per_node: int | None = option(
        None, low=0, high=1, doc="GPUs of each run: a run is one process, which uses one"
    )
    mem_gb: float | None = option(None, above=0, unit="GB", doc="memory of each run")
    timeout_min: int = option(
        240, low=1, unit="minutes", doc="time limit of a job; a run that meets it saves and goes on in the queue"
    )
    signal_delay_s: int = option(
        120, low=1, unit="seconds", doc="how long before the limit SLURM warns the job, which then saves and requeues"
    )
    max_num_timeout: int = option(20, low=0, doc="how often a job that met its time limit goes back into the queue")
    setup: tuple[str, ...] = option((), doc='shell commands before a run, such as "module load cuda"')
    options: tuple[str, ...] = option(
        (),
        doc='other options of sbatch, without dashes in front, such as "reservation=tuesday"',
        pattern=r"[a-z][a-z-]*(=.*)?",
    )

    @property
    def asks_for_gpu(self) -> bool:
        """Return whether a job may get a GPU."""
        return bool(self.gpus_per_node or self.gres or any(text.startswith("gpus") for text in self.options))

    def parameters(self) -> dict[str, Any]:
        """Return it as parameters of sbatch, by submitit's names without a prefix."""
        found = {key: value for key in _GIVEN if (value := getattr(self, key)) is not None}
        if self.setup:
            found["setup"] = list(self.setup)
        return {**found, "signal_delay_s": self.signal_delay_s}

    def additional(self) -> dict[str, Any]:
        """Return the other options of sbatch: their texts by name, True for those without a value."""
        pairs = (text.partition("=") for text in self.options)
        return {key: value if equals else True for key, equals, value in pairs}
