"""Profile a training step of DVP-VAE at its published settings, with tensors updated at once or one by one.

python benchmarks/speed/dvp_step.py --json dvp_step.json
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from interleaved import Ratio, Times, Work, as_json, ratio, show, take_turns, write
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn
from torch.utils.flop_counter import FlopCounterMode

from hebm.config.experiment import Experiment
from hebm.interfaces import Backbone, Batch, ImageSpec, Progress
from hebm.noise import Noise
from hebm.testing.subjects import image_batch, image_set, seeded
from hebm.training.guard import gradient_norm
from hebm.training.optimization import Optimization, averaged
from hebm.training.phases import Phase

FILES = Path(__file__).parents[1] / "dvp"
IMAGES = {
    "mnist": ImageSpec(1, 28, 28, binary=True),
    "omniglot": ImageSpec(1, 28, 28, binary=True),
    "mnist-small": ImageSpec(1, 28, 28, binary=True),
    "cifar10": ImageSpec(3, 32, 32),
}
WHOLE = "whole step"
GRADIENT = "loss and gradient"
ENCODER = "encoder's full-resolution stage"
CLIP = "clipping"
OPTIMISER, OPTIMISER_LOOP = "optimiser", "optimiser, one by one"
AVERAGE, AVERAGE_LOOP = "average", "average, one by one"


class Subject(NamedTuple):
    """Phase 1 of a file, ready to train.

    Arguments:
        phase: phase with the loss.
        backbone: backbone of the phase.
        optimization: optimization of the backbone.
        batch: batch of images.
    """

    phase: Phase
    backbone: Backbone
    optimization: Optimization
    batch: Batch


def subject(name: str, rows: int | None) -> Subject:
    """Build the published model of a file, on random images."""
    experiment, images = Experiment.load(FILES / f"{name}.toml"), IMAGES[name]
    backbone = seeded(lambda: experiment.backbone.build(images))
    backbone.fit_statistics(image_set(images))
    prior = seeded(lambda: experiment.prior.build(backbone))
    (phase,) = experiment.train.phases(backbone, prior)
    phase.start(Noise(0, "start"))
    return Subject(
        phase, backbone, phase.groups["backbone"].optimization, image_batch(images, rows or experiment.data.batch_size)
    )


def works(made: Subject, steps: int) -> dict[str, Work]:
    """Return the functions to time, by name."""
    phase, optimization = made.phase, made.optimization
    parameters = [p for group in phase.groups.values() for p in group.parameters().values()]
    optimiser = optimization.build(parameters)
    optimiser.param_groups[0]["lr"] = 0.0  # the optimiser is also timed alone, which must not change weights
    loop = type(optimiser)(parameters, **{**optimiser.defaults, "lr": 0.0, "foreach": False})
    average = averaged(phase, optimization.ema)
    average_loop = AveragedModel(phase, avg_fn=get_ema_avg_fn(optimization.ema))

    def gradient() -> None:
        for parameter in parameters:
            parameter.grad = None
        phase(made.batch, Noise(0, "speed"), Progress(0, 1)).total.backward()

    def whole() -> None:
        gradient()
        gradient_norm(parameters, optimization.clip)
        optimiser.step()
        average.update_parameters(phase)

    once: dict[str, Work] = {
        WHOLE: whole,
        GRADIENT: gradient,
        ENCODER: _full_resolution(made),
        CLIP: lambda: gradient_norm(parameters, optimization.clip),
        OPTIMISER: optimiser.step,
        OPTIMISER_LOOP: loop.step,
        AVERAGE: lambda: average.update_parameters(phase),
        AVERAGE_LOOP: lambda: average_loop.update_parameters(phase),
    }
    return {name: _repeated(work, steps) for name, work in once.items()}


def _repeated(work: Work, steps: int) -> Work:
    def all_of_them() -> None:
        for _ in range(steps):
            work()

    return all_of_them


def _full_resolution(made: Subject) -> Work:
    """Return the forward and backward pass of the encoder's stage at full resolution."""
    encoder = made.backbone.encoder
    assert isinstance(encoder, nn.Module)
    stem, first = encoder.stem, encoder.scales[0]

    def stage() -> None:
        h: Tensor = first(stem(made.batch.x))
        F.avg_pool2d(h, 2).sum().backward()

    return stage


def multiply_adds(made: Subject) -> dict[str, float]:
    """Count the millions of multiply-adds for an image, in convolutions and matrix products."""
    rows = len(made.batch.x)

    def counted(work: Work) -> float:
        with FlopCounterMode(display=False) as counter:
            work()
        return float(counter.get_total_flops()) / 2 / rows / 1e6

    def forward() -> None:
        with torch.no_grad():
            made.phase(made.batch, Noise(0, "speed"), Progress(0, 1))

    def stage() -> None:
        with torch.no_grad():
            made.backbone.encoder.scales[0](made.backbone.encoder.stem(made.batch.x))

    return {
        "forward": counted(forward),
        "forward and backward": counted(lambda: made.phase(made.batch, Noise(0), Progress(0, 1)).total.backward()),
        "forward of the encoder's full-resolution stage": counted(stage),
    }


def table(name: str, t: Times) -> list[Ratio]:
    """Return the shares of the step, and the ratios of updating all tensors at once to one by one."""
    parts = [
        ratio(name, f"{part} / {WHOLE}", t[part], t[WHOLE]) for part in (GRADIENT, ENCODER, CLIP, OPTIMISER, AVERAGE)
    ]
    return [
        *parts,
        ratio(name, f"{OPTIMISER}, all tensors at once / one by one", t[OPTIMISER], t[OPTIMISER_LOOP], 1.0),
        ratio(name, f"{AVERAGE}, all tensors at once / one by one", t[AVERAGE], t[AVERAGE_LOOP], 1.0),
    ]


def show_counts(name: str, counts: Mapping[str, float], whole: float, rows: int) -> None:
    """Print the multiply-adds and the seconds of an image."""
    for what, millions in counts.items():
        print(f"{name:<12} {millions:8.1f} M multiply-adds an image: {what}")
    rate = counts["forward and backward"] * rows / whole / 1e3
    print(f"{name:<12} {1e3 * whole / rows:8.2f} ms an image, {rows} a step: {rate:.1f} G multiply-adds a second")


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=IMAGES, default=["mnist"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--batch", type=int, help="images per step; by default those of the file")
    parser.add_argument("--steps", type=int, default=1, help="number of steps that are timed together")
    parser.add_argument("--repeats", type=int, default=7, help="number of timings of each variant")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    results: list[dict[str, Any]] = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        rows, more = [], {}
        for name in given.cases:
            made = subject(name, given.batch)
            times = take_turns(works(made, given.steps), given.repeats, given.steps)
            counts, n = multiply_adds(made), len(made.batch.x)
            rows += table(name, times)
            whole = sorted(times[WHOLE])[len(times[WHOLE]) // 2]
            more[name] = {"multiply_adds_millions": counts, "seconds_per_image": whole / n, "batch": n}
            show_counts(name, counts, whole, n)
        show("Training step of DVP-VAE", rows)
        results.append(as_json(rows, cases=more, repeats=given.repeats))
    write(given.json, results)


if __name__ == "__main__":
    main()
