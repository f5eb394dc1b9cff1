"""Time how long a checkpoint stops training, and how long it takes until it is on the disk.

python benchmarks/speed/checkpoint.py --folder FOLDER --json checkpoint.json

The state has the shapes of NVAE's published CIFAR-10 net: weights, their average and two moments of the optimiser. With
30 groups it takes 2.1 GB, with 23 (the default) 1.6 GB. In each turn hebm saves it as training does, and then
`torch.save` writes it and syncs it to the same disk. The times are wall time. Peak memory is that of the process, with
the live tensors, over the size of these.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from interleaved import as_json, ratio, show, write
from torch import Tensor

from hebm.interfaces import ImageSpec
from hebm.store.checkpoint_writer import CheckpointWriter
from hebm.store.checkpoints import Checkpoint, save
from hebm_plugins.nvae.recipe import NVAE

State = Mapping[str, Mapping[str, Tensor]]
FILES = ("backbone", "backbone-ema", "optimizer-backbone")
MOMENTS = ("exp_avg", "exp_inf")
BARS = {"blocked": 0.6, "memory": 2.2}
"""Largest seconds for which a save of 1.6 GB may stop training, and largest peak memory over the live tensors."""


class Saved(NamedTuple):
    """The measurements of one turn.

    Arguments:
        blocked: seconds for which hebm's save stops training.
        blocked_cpu: CPU seconds of it.
        synced: seconds until hebm's checkpoint is on the disk.
        torch_save: seconds of `torch.save` and syncing its file.
        memory: peak memory during hebm's save, over the size of the live tensors.
        torch_memory: the same for `torch.save`.
    """

    blocked: float
    blocked_cpu: float
    synced: float
    torch_save: float
    memory: float
    torch_memory: float


def made_up_state(groups: int, channels: int) -> State:
    """Return random tensors with the names and shapes of an NVAE, its average and its optimiser."""
    with torch.device("meta"):
        model = NVAE(channels=channels, scales=1, groups=groups).build(ImageSpec(3, 32, 32))
    weights = {name: tensor.shape for name, tensor in model.state_dict().items()}
    moments = {f"{name}/{moment}": p.shape for name, p in model.named_parameters() for moment in MOMENTS}
    files = dict(zip(FILES, (weights, weights, moments), strict=True))
    return {file: {name: torch.randn(shape) for name, shape in shapes.items()} for file, shapes in files.items()}


def size_of(state: State) -> int:
    """Return the bytes of all tensors."""
    return sum(tensor.nbytes for tensors in state.values() for tensor in tensors.values())


def resident() -> int:
    """Return the memory that this process uses now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def watching(peak: list[int]) -> Iterator[None]:
    """Append the largest `resident` memory in the context, looked up every 10 ms, to `peak`."""
    over, seen = threading.Event(), [resident()]

    def watch() -> None:
        while not over.wait(0.01):
            seen.append(resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        peak.append(max(seen))


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def torch_saved(state: State, folder: Path) -> None:
    """Write the state by `torch.save`, and sync the file."""
    with open(folder / "state.pt", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def turn(state: State, folder: Path, writer: CheckpointWriter, before: int) -> Saved:
    """Save the state once by hebm and once by `torch.save`. `before` is the memory without the state."""
    size, peaks = size_of(state), list[int]()
    os.sync()
    with watching(peaks):
        start, cpu = time.perf_counter(), time.thread_time()
        writer.start(Checkpoint("backbone", 1, 1, state))
        blocked, blocked_cpu = time.perf_counter() - start, time.thread_time() - cpu
        writer.wait()
        synced = time.perf_counter() - start
    shutil.rmtree(folder / "checkpoints")
    os.sync()
    with watching(peaks):
        by_torch = seconds(lambda: torch_saved(state, folder))
    (folder / "state.pt").unlink()
    return Saved(blocked, blocked_cpu, synced, by_torch, *((peak - before) / size for peak in peaks))


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=23, help="groups of the NVAE; published: 30")
    parser.add_argument("--channels", type=int, default=128, help="channels of the NVAE; published: 128")
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure; by default /tmp")
    parser.add_argument("--repeats", type=int, default=5, help="number of turns")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    before = resident()
    state = made_up_state(given.groups, given.channels)
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    writer = CheckpointWriter(lambda checkpoint: save(folder / "checkpoints", checkpoint, 2, "speed"))
    try:
        writer.reserve(state)  # as training does after its first step
        writer.wait()
        first = turn(state, folder, writer, before)
        turns = [turn(state, folder, writer, before) for _ in range(given.repeats)]
    finally:
        shutil.rmtree(folder)
    report(first, turns, size_of(state), given.json)


def report(first: Saved, turns: list[Saved], size: int, out: Path | None) -> None:
    """Print the first turn, which fills reserved memory, and the medians of the others; write them to a file."""
    by_name = {name: [getattr(each, name) for each in turns] for name in Saved._fields}
    median = {name: statistics.median(values) for name, values in by_name.items()}
    model, reference = f"{size / 1e9:.2f} GB", by_name["torch_save"]
    rows = [
        ratio(model, "seconds blocked / torch.save and sync", by_name["blocked"], reference),
        ratio(model, "seconds until synced / torch.save and sync", by_name["synced"], reference),
    ]
    show("A checkpoint, in wall time", rows)
    for name, value in median.items():
        bar = f" (bar {BARS[name]})" if name in BARS else ""
        unit = "x the tensors" if "memory" in name else "s"
        print(f"{name:<14} {value:.3f} {unit}{bar}; first {getattr(first, name):.3f}")
    write(
        out,
        [
            as_json(
                rows,
                clock="perf_counter",
                bytes=size,
                median=median,
                turns=[each._asdict() for each in (first, *turns)],
            )
        ],
    )


if __name__ == "__main__":
    main()
