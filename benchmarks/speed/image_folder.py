"""Time how fast a folder of photographs is read: without stored images, by a first command, and by later ones.

python benchmarks/speed/image_folder.py --json image_folder.json

The script makes its own JPEG photographs, resizes them to `--size`, and reads every image once, in batches. The rates
include loading the data set. All images are checked to be bit-equal to those that are decoded without the cache.
Several names may share the content of one photograph.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from interleaved import as_json, clock, ratio, show, write
from PIL import Image

from hebm.config.settings import RunSettings
from hebm.data.images import Images
from hebm.data.stored_pixels import storing_pixels
from hebm_plugins.datasets import encoded_images
from hebm_plugins.datasets.image_folder import ImageFolder

BAR = 20_000
"""Smallest number of images per second of a later command."""


def make_photographs(root: Path, count: int, contents: int, width: int) -> None:
    """Write JPEG files of a smooth scene with noise, width × 2/3 width; the names after `contents` are links."""
    noise, height = np.random.default_rng(0), 2 * width // 3
    for i in range(count):
        path = root / f"{i:06d}.jpg"
        if i >= contents:
            os.link(root / f"{i % contents:06d}.jpg", path)
            continue
        coarse = Image.fromarray(noise.integers(0, 256, (12, 18, 3), dtype=np.uint8))
        scene = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        grain = noise.integers(-8, 9, (height, width, 1), dtype=np.int16)
        Image.fromarray((scene + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def command(recipe: ImageFolder, run: RunSettings | None) -> Images:
    """Load the training split as a command does, with stored images if the settings are given."""
    with storing_pixels(run) if run is not None else nullcontext():
        return recipe.load("train")


def batches(images: Images, size: int) -> Iterator[torch.Tensor]:
    """Read every image once, in a shuffled order."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    for index in order.split(size):
        yield images.read(index)


def timed(work: Callable[[], Images], batch: int) -> tuple[float, float, Images]:
    """Return the seconds of loading and reading, those of reading alone, and the images."""
    now = clock()
    start = now()
    images = work()
    loaded = now()
    for _ in batches(images, batch):
        pass
    return now() - start, now() - loaded, images


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, help="number of images")
    parser.add_argument("--contents", type=int, default=50, help="number of different photographs among them")
    parser.add_argument("--width", type=int, default=1500, help="width of the photographs in pixels")
    parser.add_argument("--size", type=int, default=64, help="side of the images after resizing")
    parser.add_argument("--batch", type=int, default=100, help="images per batch")
    parser.add_argument("--lazy", action="store_true", help="read images from the disk, as sets of over 2 GiB are read")
    parser.add_argument("--repeats", type=int, default=7, help="number of later commands")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoded_images.MEMORY = 0 if given.lazy else encoded_images.MEMORY
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photographs"
        root.mkdir()
        make_photographs(root, given.images, given.contents, given.width)
        report(given, ImageFolder(root=str(root), size=given.size, holdout=0.0), RunSettings(cache_folder=folder))


def report(given: argparse.Namespace, recipe: ImageFolder, run: RunSettings) -> None:
    """Measure, print the images per second, and write them to a file."""
    first, _, images = timed(lambda: command(recipe, run), given.batch)
    again, every = timed(lambda: command(recipe, None), given.batch), range(given.images)
    if not torch.equal(images.read(torch.tensor(every)), again[2].read(torch.tensor(every))):
        raise SystemExit("stored images differ from decoded ones")
    turns = [timed(lambda: command(recipe, run), given.batch) for _ in range(given.repeats)]
    later, passes = [turn[0] for turn in turns], [turn[1] for turn in turns]
    name = f"{given.width} px"
    rows = [
        ratio(name, "first command / command without stored images", [first], [again[0]]),
        ratio(name, "later command / command without stored images", later, [again[0]] * given.repeats),
    ]
    show(f"{given.images:,} JPEG photographs, resized to {given.size}", rows)
    seconds = {"decoded": again[0], "first": first, "later": statistics.median(later)}
    seconds["later pass"] = statistics.median(passes)
    rates = {which: given.images / each for which, each in seconds.items()}
    for which, rate in rates.items():
        print(f"{which:<12} {rate:>10,.0f} images/s{f' (bar {BAR:,})' if which == 'later' else ''}")
    write(given.json, [as_json(rows, images_per_second=rates, images=given.images)])


if __name__ == "__main__":
    main()
