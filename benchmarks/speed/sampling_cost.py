"""Compare the cost of a K-step chain on the product of M stages with the diffusion prior's T chains of K steps.

The product evaluates M energies and one T(u) per step, for K steps. The diffusion prior evaluates one energy and one
T(u) per step, for T · K steps.

python benchmarks/speed/sampling_cost.py --json sampling_cost.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from interleaved import Ratio, Work, as_json, ratio, show, take_turns, write
from nvae_models import CASES as NVAES

from hebm.building import seeded
from hebm.interfaces import Backbone, ImageSpec, PriorLearner, Request
from hebm.noise import Noise
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.energies.mlp_time import MLPTime
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.multi_stage.prior import MultiStagePrior
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.samplers.ula import ULA
from hebm_plugins.two_layer.recipe import TwoLayer

STAGES, LEVELS = 4, 3
TWO_LAYER = TwoLayer(z_dims=(16, 32), widths=(8,), inference="none")


def backbone_of(case: str) -> tuple[Backbone, int]:
    """Return a backbone in eval mode and folded, and the number of chains."""
    with seeded(0, "speed"):
        if case == "two-layer":
            return TWO_LAYER.build(ImageSpec(1, 8, 8)).eval(), 100
        nvae = NVAES["small"]
        return nvae.recipe.build(ImageSpec(3, nvae.side, nvae.side)).eval().folded(), nvae.batch


def priors_of(backbone: Backbone, width: int, steps: int) -> tuple[PriorLearner, PriorLearner]:
    """Build a prior of 4 stages and a diffusion prior with nets of the same width."""
    with seeded(0, "speed"):
        stages = MultiStage(
            stages=STAGES, energy=MLP(width=width, zero_init=False), sampler=ULA(steps=steps, step_size=1e-3)
        ).build(backbone)
        energy, sampler = MLPTime(width=width, zero_init=False), ULA(steps=steps, step_size=1.0)
        diffusion = Diffusion(levels=LEVELS, energy=energy, sampler=sampler).build(backbone)
    assert isinstance(stages, MultiStagePrior)
    stages.trained_stages = STAGES
    return stages.eval(), diffusion.eval()


def measure(case: str, width: int, steps: int, repeats: int) -> list[Ratio]:
    """Return the ratios of times to draw one batch."""
    backbone, batch = backbone_of(case)

    stages, diffusion = priors_of(backbone, width, steps)

    def draw(prior: PriorLearner, after: str | None = None) -> Work:
        return lambda: prior.sample(backbone, batch, Noise(0, "speed"), Request(after=after))

    products = {name: draw(stages, name) for name in (f"stage {m}" for m in range(1, STAGES + 1))}
    times = take_turns({**products, "diffusion": draw(diffusion)}, repeats)
    one = times["stage 1"]
    rows = [ratio(case, f"{m} stages / 1 stage", times[f"stage {m}"], one) for m in range(2, STAGES + 1)]
    name = f"diffusion, T = {LEVELS}"
    return [
        *rows,
        ratio(case, f"{name} / 1 stage", times["diffusion"], one),
        ratio(case, f"{LEVELS} stages / {name}", times[f"stage {LEVELS}"], times["diffusion"], 1.0),
    ]


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=("two-layer", "nvae"), default=["two-layer", "nvae"])
    parser.add_argument("--width", type=int, default=128, help="width of the energies")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10, help="K, steps of a chain")
    parser.add_argument("--repeats", type=int, default=15, help="number of timings of each variant")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = [row for case in given.cases for row in measure(case, given.width, given.steps, given.repeats)]
    show(f"Drawing, K = {given.steps} steps a chain", rows)
    write(given.json, [as_json(rows, steps=given.steps, repeats=given.repeats)])


if __name__ == "__main__":
    main()
