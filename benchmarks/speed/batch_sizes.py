"""Compare the time of a draw when different numbers of images are computed at a time.

python benchmarks/speed/batch_sizes.py --json batch_sizes.json

A joint prior draws and decodes 28×28 images by a chain of a few steps. Each time per image is divided by that of the
default batch size, which `hebm.batch_sizes` chooses by memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from interleaved import as_json, ratio, show, take_turns, write
from stored_draws import BACKBONES, SPEC

from hebm.batch_sizes import bytes_per_sample
from hebm.building import seeded
from hebm.model import Model
from hebm.trained import TrainedModel
from hebm_plugins.priors.joint import Joint
from hebm_plugins.samplers.ula import ULA


def model_of(backbone: str, steps: int) -> Model:
    """Return an untrained model whose prior draws by a chain of this length."""
    with seeded(0, "speed"):
        made = BACKBONES[backbone].build(SPEC)
        return Model(made, Joint(sampler=ULA(steps=steps)).build(made)).requires_grad_(False)


def drawing(model: Model, images: int, rows: int) -> Callable[[], None]:
    """Return a function that draws images, `rows` at a time, and forgets them."""

    def draw() -> None:
        for _ in model.sample_batches(max(images, rows), batch_size=rows):
            pass

    return draw


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--rows", nargs="*", type=int, default=[8, 32, 64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--images", type=int, default=512, help="images that are timed together")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows, sizes = [], {}
    for name in given.models:
        model = model_of(name, given.steps)
        chosen = model.default_batch_size
        sizes[name] = {"rows": chosen, "bytes": bytes_per_sample(TrainedModel(model.backbone, model.prior))}
        counts = sorted({*given.rows, chosen})
        times = take_turns({str(n): drawing(model, given.images, n) for n in counts}, given.repeats)
        each = {n: [seconds / max(given.images, n) for seconds in times[str(n)]] for n in counts}
        rows += [ratio(name, f"{n} / {chosen} images at a time", each[n], each[chosen]) for n in counts]
    show("A draw, per image", rows)
    for name, size in sizes.items():
        print(f"{name}: {size['rows']} images at a time by default, {size['bytes']:,} bytes per image")
    write(given.json, [as_json(rows, sizes=sizes)])


if __name__ == "__main__":
    main()
