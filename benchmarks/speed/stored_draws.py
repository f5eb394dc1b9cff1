"""Compare a step of phase 2 with and without stored draws, and compute after how many steps storing pays off.

python benchmarks/speed/stored_draws.py --json stored_draws.json

Three kinds of steps of the multi-stage prior's first stage are timed on 28×28 images, with gradients and without the
optimiser. The first infers (and decodes) its images, the second also stores the result, and the third reads stored
draws. Storing draws pays off after

    E + E max(0, t_storing − t_fresh) / (t_fresh − t_stored) steps,   E = m N / B steps of storing.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import attrs
import torch
from interleaved import Ratio, as_json, ratio, show, take_turns, write

from hebm.building import seeded
from hebm.data.batches import Batches
from hebm.data.images import ArrayImages
from hebm.interfaces import BackboneRecipe, EnergyRecipe, ImageSpec, Progress
from hebm.noise import Noise
from hebm.store.row_cache import RowCache
from hebm.training.phases import Phase, Supplies
from hebm.training.two_phase import TwoPhase
from hebm_plugins.datasets.digits import Digits
from hebm_plugins.energies.image_conv import ImageConv
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.hvae.recipe import HVAE
from hebm_plugins.nvae.recipe import NVAETiny
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Contrast
from hebm_plugins.two_layer.recipe import TwoLayer

SPEC = ImageSpec(channels=1, height=28, width=28)
BACKBONES: dict[str, BackboneRecipe] = {
    "two-layer": TwoLayer(),
    "hvae": HVAE(channels=16),
    "nvae-tiny": NVAETiny(pad=2),
}
TURN = 4
"""Number of steps that are timed together, since negatives are drawn 512 at a time."""
ENERGIES: dict[str, EnergyRecipe] = {"mlp": MLP(), "image-conv": ImageConv()}


class Paid(NamedTuple):
    """The number of steps after which storing pays off; None if reading stored draws is not faster."""

    model: str
    images: int
    draws: int
    steps: int | None


def phase_of(backbone: str, energy: str, folder: Path | None, images: int, batch: int) -> tuple[Phase, Batches]:
    """Return a started phase 2 that stores its draws in a folder, or makes new draws at every step if it is None."""
    stored = folder is not None
    with seeded(0, "speed"):
        model = BACKBONES[backbone].build(SPEC).eval().requires_grad_(False)
        contrast = Contrast(negatives="pool" if stored else "chain", pool=images)
        prior = MultiStage(stages=1, energy=ENERGIES[energy], contrast=contrast).build(model)
    scheme = attrs.evolve(TwoPhase(), posterior_draws=1 if stored else None)
    *_, phase = scheme.phases(model, prior)
    pixels = Noise(0, "images").uniform(images, 1, 28, 28).mul(2).sub(1)
    batches = Batches(ArrayImages(pixels), Digits(batch_size=batch), 0)
    phase.start(Noise(0, "start"), Supplies(batches, RowCache(folder)))
    return phase, batches


def stepping(phase: Phase, batches: Batches, numbers: Iterator[int]) -> Callable[[], None]:
    """Return a function that takes the phase's next steps, with their gradients."""

    def steps() -> None:
        for number in itertools.islice(numbers, TURN):
            batch = batches.batch(number)
            progress = Progress(number, 10**6, batches.recipe.batch_size)
            torch.autograd.backward(phase(batch, Noise(0, "step", number), progress).total)
            for parameter in phase.parameters():
                parameter.grad = None

    return steps


def measured(backbone: str, energy: str, batch: int, repeats: int, images: int) -> tuple[list[Ratio], Paid]:
    """Time the three kinds of step in turn."""
    name = f"{backbone}, {energy}"
    with tempfile.TemporaryDirectory() as folder:
        read = stepping(*phase_of(backbone, energy, Path(folder) / "few", TURN * batch, batch), itertools.count())
        read()  # stores all
        count = (repeats + 1) * TURN * batch  # every step has new images
        storing = stepping(*phase_of(backbone, energy, Path(folder) / "many", count, batch), itertools.count())
        fresh = stepping(*phase_of(backbone, energy, None, count, batch), itertools.count())
        times = take_turns({"fresh": fresh, "storing": storing, "stored": read}, repeats, TURN)
    rows = [
        ratio(name, "step with stored draws / step with new draws", times["stored"], times["fresh"]),
        ratio(name, "step that stores its draws / step with new draws", times["storing"], times["fresh"]),
    ]
    stored, store = (row.value for row in rows)
    epochs = images / batch
    paid = round(epochs + epochs * max(0.0, store - 1) / (1 - stored)) if stored < 1 else None
    return rows, Paid(name, images, 1, paid)


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--energies", nargs="+", choices=ENERGIES, default=list(ENERGIES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--steps", type=int, default=128, help="images per step")
    parser.add_argument(
        "--images", type=int, default=24_000, help="N, number of images, for the step at which storing pays off"
    )
    parser.add_argument("--repeats", type=int, default=8, help="number of timings of each variant")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    results = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        found = [
            measured(model, energy, given.steps, given.repeats, given.images)
            for model in given.models
            for energy in given.energies
        ]
        rows, paid = [row for some, _ in found for row in some], [one for _, one in found]
        show(f"Step of phase 2 on {given.steps} images", rows)
        for one in paid:
            print(f"{one.model}: {one.draws} draw of {one.images:,} images has paid for itself after {one.steps} steps")
        results.append(as_json(rows, paid=[one._asdict() for one in paid], repeats=given.repeats))
    write(given.json, results)


if __name__ == "__main__":
    main()
