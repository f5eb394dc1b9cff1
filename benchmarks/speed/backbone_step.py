"""Time a training step of each backbone in both memory formats, and in a plain form.

The plain form has torch's own convolutions in contiguous format and updates weights tensor by tensor (`foreach`). On an
NVAE it is the published form: it also computes in the published order, and its kernels again for the penalty.

python benchmarks/speed/backbone_step.py --json backbone_step.json
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import NamedTuple

import torch
from interleaved import Ratio, Work, as_json, ratio, show, take_turns, write
from nvae_models import as_published
from torch import Tensor

from hebm.building import seeded
from hebm.interfaces import BackboneRecipe, Batch, ImageSpec, InferringBackbone, Loss, Progress
from hebm.noise import Noise
from hebm.training.memory_formats import FORMATS, to_format
from hebm.training.optimization import Optimization
from hebm_plugins.hvae.recipe import HVAE
from hebm_plugins.nvae.backbone import NVAEBackbone
from hebm_plugins.nvae.recipe import NVAE, NVAETiny
from hebm_plugins.two_layer.recipe import TwoLayer

TOLERANCE = 1e-5
"""Allowed relative difference of first losses in float32."""


class Case(NamedTuple):
    """A case to time.

    Arguments:
        recipe: recipe of the backbone.
        images: its images.
        batch: number of images in a step.
        optimizer: name of the optimiser.
        bar: largest allowed ratio of the faster format to the plain form.
    """

    recipe: BackboneRecipe
    images: ImageSpec
    batch: int
    optimizer: str = "adamax"
    bar: float | None = 1 / 1.15


GREY, COLOUR = ImageSpec(1, 28, 28), ImageSpec(3, 32, 32)
CASES = {
    # 5.9 M parameters: 2 scales of 4 groups, 32 channels
    "nvae": Case(NVAE(groups=4), COLOUR, 8, bar=1 / 1.4),
    "nvae-tiny": Case(NVAETiny(pad=2), GREY, 50),
    "hvae": Case(HVAE(channels=16), GREY, 100, "adam"),
    "hvae-colour": Case(HVAE(), COLOUR, 64, "adam", bar=1.0),
    "two-layer": Case(TwoLayer(), GREY, 100, "adam"),
}


def published_objective(backbone: NVAEBackbone, batch: Batch, noise: Noise, progress: Progress) -> Loss:
    """Return an NVAE's loss, for which the penalty computes all effective kernels again."""
    posterior = backbone.infer(batch, noise)
    log_likelihood = backbone.likelihood(posterior.latents).log_prob(batch.target)
    return backbone.settings.loss(log_likelihood, posterior, backbone.structure.groups, backbone.penalty, progress)


class Step:
    """Training steps on one batch: objective, backward pass and optimiser.

    Arguments:
        backbone: the backbone; it is trained.
        x: images.
        optimizer: name of the optimiser.
        plain: take the steps in the plain form.
    """

    def __init__(self, backbone: InferringBackbone, x: Tensor, optimizer: str, plain: bool = False) -> None:
        self.backbone, self.plain, self.taken = backbone, plain, 0
        self.batch = Batch(x, x, torch.zeros(len(x), dtype=torch.long), torch.arange(len(x)))
        made = Optimization(optimizer=optimizer).build(backbone.parameters())
        self.optimizer = type(made)(backbone.parameters(), lr=made.defaults["lr"], foreach=True) if plain else made

    def loss(self) -> Tensor:
        """Return the loss of the next step."""
        noise, progress = Noise(0, "speed").derive(self.taken), Progress(1 + self.taken, 1000)
        if self.plain and isinstance(self.backbone, NVAEBackbone):
            return published_objective(self.backbone, self.batch, noise, progress).total
        return self.backbone.objective(self.batch, noise, progress).total

    def __call__(self) -> None:
        """Take the next training step."""
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.taken += 1


def steps_of(case: Case) -> dict[str, Step]:
    """Return the variants of a case. They start from the same weights."""
    with seeded(0, "speed"):
        backbone = case.recipe.build(case.images)
    if not isinstance(backbone, InferringBackbone):
        raise SystemExit(f"{type(backbone).__name__} has no inference model")
    x = 2 * torch.rand(case.batch, *case.images.shape, generator=torch.Generator().manual_seed(0)) - 1
    steps = {}
    for name in FORMATS:
        to_format(twin := copy.deepcopy(backbone), name)
        steps[name] = Step(twin, x, case.optimizer)
    steps["plain"] = Step(as_published(backbone), x, case.optimizer, plain=True)
    return steps


def check_equal(steps: dict[str, Step]) -> float:
    """Return the largest relative difference of the variants' first losses. Raise if it exceeds the tolerance."""
    losses = [float(step.loss().detach()) for step in steps.values()]
    error = max(abs(loss / losses[0] - 1) for loss in losses)
    if not error <= TOLERANCE:
        raise SystemExit(f"losses differ by {error:.1e}, allowed is {TOLERANCE:.0e}")
    return error


def measure(name: str, repeats: int) -> tuple[list[Ratio], float]:
    """Return the rows of one case, and the largest relative difference of first losses."""
    case = CASES[name]
    steps = steps_of(case)
    error = check_equal(steps)
    works: dict[str, Work] = dict(steps)
    t = take_turns(works, repeats)
    faster = min(FORMATS, key=lambda found: sum(t[found]))
    rows = [
        ratio(name, "channels-last / contiguous", t["channels-last"], t["contiguous"]),
        ratio(name, f"{faster} / plain form", t[faster], t["plain"], case.bar),
    ]
    return rows, error


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--repeats", type=int, default=15, help="number of timings of each variant")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    results = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        measured = {name: measure(name, given.repeats) for name in given.cases}
        rows = [row for found, _ in measured.values() for row in found]
        show("Training step of a backbone", rows)
        results.append(as_json(rows, repeats=given.repeats, errors={name: e for name, (_, e) in measured.items()}))
    write(given.json, results)


if __name__ == "__main__":
    main()
