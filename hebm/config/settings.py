"""The table `[run]`: how an experiment is run, not what it computes."""

from __future__ import annotations

from typing import Literal

from hebm.config.recipes import option, recipe

CACHE_FOLDER = "~/.cache/hebm"


@recipe
class RunSettings:
    """Device, precision, checkpoints and logging."""

    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", doc="where to compute; auto takes a GPU if any")
    dtype: Literal["float32", "float64"] = option("float32", doc="floating-point type of parameters and latents")
    mixed_precision: Literal["no", "bf16"] = option("no", doc="type of matrix products under autocast")
    compile: bool = option(
        False,
        doc="compile each sampler step (T, energies, gradient, update) as one graph; needs torch 2.11 or newer, and on "
        "a CPU a C++ compiler",
    )
    cuda_graphs: bool = option(
        False, doc="record each chain's step as a CUDA graph and replay it: short chains of small nets on a GPU"
    )
    threads: int | None = option(None, low=1, high=4096, doc="CPU threads per process; left out: the machine's setting")
    gradient_accumulation: int = option(1, low=1, doc="micro-batches that each batch is cut into")
    trackers: tuple[str, ...] = option((), doc="experiment trackers of accelerate by name, such as tensorboard")
    project: str = option("hebm", doc="the project that trackers file the run under")
    cache_folder: str = option(
        CACHE_FOLDER,
        doc="where caches of any kind are kept, such as trained extractors; not a part of any run",
        renamed_from="/evaluate/cache",
    )
    cache_limit: float = option(
        20.0,
        doc="GiB that stored draws may take in it, and kept features as well; of features, the latest are kept",
        above=0,
        unit="GiB",
    )
    keep: int = option(2, low=2, doc="how many checkpoints to keep")
    checkpoint_every: int = option(500, low=1, unit="steps", doc="how often to save a checkpoint")
    log_every: int = option(50, low=1, unit="steps", doc="how often to write a line of metrics.jsonl")
    sample_every: int = option(0, low=0, unit="steps", doc="how often to draw a grid of samples; 0 is never")
    max_skipped: int = option(
        5, low=1, doc="stop after this number of successive steps whose loss or gradient is not finite"
    )
