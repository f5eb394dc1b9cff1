"""Compare an evaluation whose search for the control's temperature uses few images with one that uses all.

python benchmarks/speed/evaluation.py runs/quickstart

Every evaluation computes all its features: it gets an empty cache folder, except for the trained extractors. The
control's Fréchet distance and its standard error are printed for both, since the search must not change them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from functools import partial
from pathlib import Path

import torch
from interleaved import ratio, show, take_turns

import hebm
from hebm.config.paths import expanded
from hebm.config.settings import CACHE_FOLDER
from hebm.evaluation.kinds import SCALED_GAUSSIAN

_NAME = "speed"


def measure(run: hebm.Run, samples: int, searched: int) -> hebm.Measurements:
    """Evaluate a run on `samples` images, with `searched` images per tried temperature, and no stored features."""
    with tempfile.TemporaryDirectory() as cache:
        trained = Path(expanded(CACHE_FOLDER)) / "extractors"
        if trained.exists():
            shutil.copytree(trained, Path(cache) / "extractors")
        changes = {"samples": samples, "temperature_samples": searched, "metrics": ["fd", "gap-closed"]}
        keys = {f"evaluate.{key}": value for key, value in changes.items()}
        return run.evaluate({**keys, "run.cache_folder": cache}, name=_NAME, progress=False)


def control(found: hebm.Measurements) -> str:
    """Return the temperature and the Fréchet distance of the control."""
    temperature, distance = (found.get(name, kind=SCALED_GAUSSIAN) for name in ("temperature", "fd"))
    return f"τ = {temperature.value:.4g}, FD {distance.value:.4f} ± {distance.error:.4f}"


def main() -> None:
    """Print seconds and the ratio of each run; the extractors must have been trained before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows, found = [], {}
    for path in chosen.runs:
        run = hebm.open_run(path)

        def turn(name: str, searched: int, run: hebm.Run = run) -> None:
            found[run.path.name, name] = measure(run, chosen.samples, searched)

        work = {"few": partial(turn, "few", chosen.few), "all": partial(turn, "all", chosen.samples)}
        times = take_turns(work, chosen.repeats)
        rows.append(ratio(path.name, "search on few / on all images", times["few"], times["all"], 1.0))
    show("evaluation", rows)
    for (name, searched), measured in found.items():
        print(f"{name}, search on {searched}: {control(measured)}")


if __name__ == "__main__":
    main()
