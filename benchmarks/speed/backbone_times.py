"""Measure the time of a training step of each backbone of a sweep, and of all its steps, at equal conditions.

python benchmarks/speed/backbone_times.py benchmarks/sweeps/vdvae-tiny-mnist.toml --json backbone_times.json
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from interleaved import Work, environment, take_turns, write
from sweep_models import SHAPES, runs_of

from hebm import registry
from hebm.building import build
from hebm.config.experiment import Experiment
from hebm.interfaces import Batch, ImageSpec, Progress
from hebm.noise import Noise
from hebm.training.phases import Phase
from hebm.training.state import GroupState, clip_gradients

FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def phase_of(experiment: Experiment) -> tuple[Phase, ImageSpec]:
    """Return phase 1 of an experiment with untrained weights, and its images."""
    data = experiment.data
    images = ImageSpec(*SHAPES[registry.name_of(data)], binary=data.binarize != "off")
    model = build(experiment, images)
    return experiment.train.phases(model.backbone, model.prior)[0], images


def step_of(experiment: Experiment, memory_format: torch.memory_format) -> Work:
    """Return a function that takes one training step of an experiment's phase 1 on random images."""
    phase, images = phase_of(experiment)
    phase.to(memory_format=memory_format)
    groups = [GroupState.of(name, group) for name, group in phase.groups.items()]
    x = 2 * Noise(0, "images").uniform(experiment.data.batch_size, *images.shape) - 1
    x = x.sign() if images.binary else x
    batch = Batch(x, x, None, torch.arange(len(x)))

    def step() -> None:
        phase(batch, Noise(0, "step"), Progress(1, phase.steps)).total.backward()
        clip_gradients(groups, together=True)
        for group in groups:
            group.update()
            group.optimizer.zero_grad(set_to_none=True)

    return step


def measured(sweep: Path, repeats: int) -> list[dict[str, Any]]:
    """Return the time of a step in the faster memory format, and the number of steps, of each backbone of a sweep."""
    trained = {name: runs[0].experiment for name, runs in runs_of(sweep).items() if runs[0].needs is None}
    works = {f"{name} {f}": step_of(e, FORMATS[f]) for name, e in trained.items() for f in FORMATS}
    times = {key: statistics.median(seconds) for key, seconds in take_turns(works, repeats).items()}
    rows = []
    for name, experiment in trained.items():
        seconds, memory_format = min((times[f"{name} {f}"], f) for f in FORMATS)
        steps = phase_of(experiment)[0].steps
        rows.append({"variant": name, "format": memory_format, "step_ms": 1e3 * seconds, "steps": steps})
    return rows


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--repeats", type=int, default=9, help="number of timed steps of each backbone and format")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = measured(given.sweep, given.repeats)
    print(", ".join(f"{key} {value}" for key, value in environment().items()))
    for row in rows:
        seconds = row["steps"] * row["step_ms"] / 1e3
        print(f"{row['variant']:12} {row['format']:14} {row['step_ms']:8.1f} ms a step, {seconds:6.0f} s in all")
    write(given.json, [{**environment(), "backbones": rows}])


if __name__ == "__main__":
    main()
