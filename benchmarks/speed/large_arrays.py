"""Compare training on a large array of images, mapped into memory, with training on a small one.

python benchmarks/speed/large_arrays.py --json large_arrays.json

The script makes .npy files of random colour images of 32×32 pixels, in a temporary folder, and deletes them. Steps of
the two-layer generator (batch, loss and gradients) on both files take turns in one process. Processes of their own load
each file, first without stored facts and then with them, and report CPU time and anonymous memory: memory that no file
backs, in addition to what the process has before. The clock covers loading both splits and hashing them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import Work, as_json, ratio, show, take_turns, write

from hebm.building import seeded
from hebm.config.settings import RunSettings
from hebm.data.batches import Batches
from hebm.data.images import Images
from hebm.data.stored_pixels import storing_pixels
from hebm.interfaces import ImageSpec, Progress
from hebm.noise import Noise
from hebm.training.two_phase import TwoPhase
from hebm_plugins.datasets.arrays import Arrays
from hebm_plugins.priors.joint import Joint
from hebm_plugins.two_layer.recipe import TwoLayer

SIDE, CHUNK, TURN = 32, 20_000, 20
STATUS = Path("/proc/self/status")


def make_images(path: Path, count: int) -> None:
    """Write an .npy file of random images `(N, 32, 32, 3)`, uint8."""
    shape, noise = (count, SIDE, SIDE, 3), np.random.default_rng(0)
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for start in range(0, count, CHUNK):
        few = values[start : start + CHUNK]
        few[:] = np.frombuffer(noise.bytes(few.size), np.uint8).reshape(few.shape)


def loaded(path: Path, cache: Path) -> Images:
    """Load both splits as a command does, with stored facts, hash them, and return the training images."""
    with storing_pixels(RunSettings(cache_folder=str(cache))):
        splits = Arrays(train=str(path)).splits()
    for images in splits.values():
        images.fingerprint()
    return splits["train"]


def stepping(images: Images, batch: int, steps: int) -> Work:
    """Return a function that takes the next training steps of the backbone, with gradients."""
    with seeded(0, "speed"):
        backbone = TwoLayer().build(ImageSpec(3, SIDE, SIDE))
        phase, *_ = TwoPhase().phases(backbone, Joint().build(backbone))
    batches, numbers = Batches(images, Arrays(batch_size=batch), 0), itertools.count()

    def work() -> None:
        for number in itertools.islice(numbers, steps):
            noise, progress = Noise(0, "step", number), Progress(number, 10**6, batch)
            torch.autograd.backward(phase(batches.batch(number), noise, progress).total)
            for parameter in phase.parameters():
                parameter.grad = None

    return work


# ---------------------------------------------------------------- memory of one process


def anonymous() -> float:
    """Return the anonymous memory of this process, in MiB."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def watched(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return a result with its CPU seconds, and the largest anonymous memory meanwhile above that before, in MiB."""
    before, seen, over = anonymous(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            seen.append(anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.process_time()
    result = work()
    seconds = time.process_time() - start
    over.set()
    watcher.join()
    return result, {"seconds": seconds, "mib": max(seen)}


def report(path: Path, cache: Path, batch: int, steps: int) -> None:
    """Print what loading and training take in this process, as JSON."""
    stepping(loaded(path.with_name("warm-up.npy"), cache / "warm-up"), batch, 2)()  # what the first step allocates
    _, first = watched(lambda: loaded(path, cache))
    images, later = watched(lambda: loaded(path, cache))
    _, training = watched(stepping(images, batch, steps))
    print(json.dumps({"first": first, "later": later, "training": training}))


def in_process(path: Path, cache: Path, batch: int, steps: int) -> dict[str, dict[str, float]]:
    """Return the report of a process of its own."""
    options = ("--report", path, "--cache", cache, "--batch", batch, "--steps", steps)
    command = [sys.executable, __file__, *map(str, options)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


# ---------------------------------------------------------------- command line


def lines(found: dict[int, dict[str, dict[str, float]]]) -> Iterator[str]:
    """Yield one line for every file and part."""
    for count, parts in found.items():
        for name, taken in parts.items():
            yield f"{count:,} images, {name}: {taken['seconds']:.2f} s, {taken['mib']:.0f} MiB of anonymous memory"


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs=2, type=int, default=[50_000, 1_300_000], metavar=("FEW", "MANY"))
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200, help="training steps whose memory is watched")
    parser.add_argument("--repeats", type=int, default=10, help=f"number of timings of {TURN} steps")
    parser.add_argument("--folder", type=Path, help="where the files are made; 4 GB are needed")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.report is not None:
        report(given.report, given.cache, given.batch, given.steps)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        files = {count: Path(folder) / f"{count}.npy" for count in given.images}
        for count, path in {**files, 2 * given.batch: Path(folder) / "warm-up.npy"}.items():
            make_images(path, count)
        cache = Path(folder) / "cache"
        found = {count: in_process(path, cache, given.batch, given.steps) for count, path in files.items()}
        few, many = (stepping(loaded(path, cache), given.batch, TURN) for path in files.values())
        times = take_turns({"few": few, "many": many}, given.repeats, TURN)
    name = "training step on {1:,} images / on {0:,}".format(*given.images)
    rows = [ratio("two-layer", name, times["many"], times["few"])]
    show(f"Training on arrays, batch {given.batch}", rows)
    print(*lines(found), sep="\n")
    write(given.json, [as_json(rows, batch=given.batch, found=found, repeats=given.repeats)])


if __name__ == "__main__":
    main()
