"""The table `[run]`: where and how an experiment is run."""

from __future__ import annotations

from typing import Literal

from hebm.config.recipes import option, recipe

CACHE_FOLDER = "~/.cache/hebm"


@recipe
class RunSettings:
    """Device, precision, checkpoints and logging."""

    device: Literal["auto", "cpu", "cuda", "mps"] = option(
        "auto", doc="device of the computation; auto uses a GPU if available"
    )
    dtype: Literal["float32", "float64"] = option("float32", doc="floating-point type of parameters and latents")
    mixed_precision: Literal["no", "bf16"] = option("no", doc="precision of matrix products under autocast")
    memory_format: Literal["auto", "contiguous", "channels-last"] = option(
        "auto",
        doc="memory format of the feature maps while a backbone is trained; auto measures both once on this device, "
        "and uses contiguous in phases of fewer than 500 steps",
    )
    compile: bool = option(
        False,
        doc="compile each sampler step (T, energies, gradient, update) as one graph; needs torch 2.11 or newer, and on "
        "a CPU a C++ compiler",
    )
    cuda_graphs: bool = option(
        False,
        doc="record each chain's step as a CUDA graph and replay it; speeds up short chains of small nets on a GPU",
    )
    threads: int | Literal["auto"] | None = option(
        None,
        low=1,
        high=4096,
        doc="CPU threads per process; by default the machine's setting; auto measures a few training steps with one "
        "thread and with all when a run starts, and records the faster in the run folder",
    )
    gradient_accumulation: int = option(1, low=1, doc="number of micro-batches per batch")
    trackers: tuple[str, ...] = option((), doc="experiment trackers of accelerate by name, such as tensorboard")
    project: str = option("hebm", doc="name of the project in trackers")
    cache_folder: str = option(
        CACHE_FOLDER,
        doc="folder of all caches, such as trained extractors, shared by runs",
        renamed_from="/evaluate/cache",
    )
    cache_limit: float = option(
        20.0,
        doc="disk space in cache_folder for stored draws, again for decoded images, and again for features; what no "
        "run uses makes room, the oldest first",
        above=0,
        unit="GiB",
    )
    keep: int = option(2, low=2, doc="number of checkpoints to keep")
    checkpoint_every: int = option(500, low=1, unit="steps", doc="steps between checkpoints")
    log_every: int = option(50, low=1, unit="steps", doc="steps between lines of metrics.jsonl")
    sample_every: int = option(0, low=0, unit="steps", doc="steps between grids of samples; 0 draws none")
    max_skipped: int = option(
        5, low=1, doc="stop after this number of successive steps with a loss or gradient that is not finite"
    )
