"""The table `[slurm]` of a sweep file: the resources that each run requests from a SLURM cluster."""

from __future__ import annotations

from typing import Any

from hebm.config.recipes import option, recipe

_GIVEN = ("partition", "account", "qos", "constraint", "nodelist", "exclude", "gres", "cpus_per_task", "gpus_per_node")
"""Options of sbatch with the same names, which are omitted unless they are given."""


@recipe
class SlurmSettings:
    """The resources of each run's job; keys have the names of submitit or of sbatch's options."""

    partition: str | None = option(
        None, doc="partition, or several with commas; by default the cluster's default partition"
    )
    account: str | None = option(None, doc="account to charge")
    qos: str | None = option(None, doc="quality of service")
    constraint: str | None = option(None, doc='features that a node must have, such as "a100|h100"')
    nodelist: str | None = option(None, doc="nodes to use")
    exclude: str | None = option(None, doc="nodes not to use")
    gres: str | None = option(None, doc='generic resources, such as "gpu:a100:1"; instead of gpus_per_node')
    cpus_per_task: int | None = option(None, low=1, doc="processor cores per run")
    gpus_per_node: int | None = option(
        None, low=0, high=1, doc="GPUs per run; a run is one process, which uses at most one"
    )
    mem_gb: float | None = option(None, above=0, unit="GB", doc="memory per run")
    timeout_min: int = option(
        240, low=1, unit="minutes", doc="time limit of a job; a run that reaches it saves, and returns to the queue"
    )
    signal_delay_s: int = option(
        120,
        low=1,
        unit="seconds",
        doc="time before the limit at which SLURM warns the job, so that it saves and returns to the queue",
    )
    max_num_timeout: int = option(
        20, low=0, doc="how many times a job that reached its time limit returns to the queue"
    )
    setup: tuple[str, ...] = option((), doc='shell commands before a run, such as "module load cuda"')
    options: tuple[str, ...] = option(
        (),
        doc='other options of sbatch without leading dashes, such as "reservation=tuesday"',
        pattern=r"[a-z][a-z-]*(=.*)?",
    )

    @property
    def asks_for_gpu(self) -> bool:
        """True if the settings request a GPU."""
        return bool(self.gpus_per_node or self.gres or any(text.startswith("gpus") for text in self.options))

    def parameters(self) -> dict[str, Any]:
        """Return the settings as parameters of sbatch, by submitit's names without a prefix."""
        found = {key: value for key in _GIVEN if (value := getattr(self, key)) is not None}
        if self.setup:
            found["setup"] = list(self.setup)
        return {**found, "signal_delay_s": self.signal_delay_s}

    def additional(self) -> dict[str, Any]:
        """Return the other options of sbatch by name: the text of the value, or True for options without one."""
        pairs = (text.partition("=") for text in self.options)
        return {key: value if equals else True for key, equals, value in pairs}
