"""Compare a training step of the joint prior with its chain and energies. Measure the growth of time and memory.

python benchmarks/speed/training_step.py --json training_step.json
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from interleaved import Ratio, as_json, ratio, show, take_turns, write
from models import MODELS, Subject, deep

from hebm.interfaces import Progress
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.sampling import run
from hebm_plugins.samplers.ula import ULA


def step_ratio(name: str, steps: int, repeats: int) -> Ratio:
    """Return the ratio of objective + backward + Adam to chain + forward and backward of the energies."""
    backbone, prior, batch = MODELS[name]()
    backbone.requires_grad_(False)
    prior.sampler = ULA.from_std(0.4, steps)
    optimizer = torch.optim.Adam(prior.parameters(), lr=2e-5)
    noise = Noise(0, "speed")
    with torch.no_grad():
        positive, negative = (backbone.latents(noise.normal(batch, backbone.layout.dim)) for _ in range(2))

    def training_step() -> None:
        prior.objective(backbone, Posterior(positive), noise.derive("step"), Progress(0, 1)).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def chain() -> None:
        start = prior.root.sample(backbone, batch, noise.derive("base"))
        run(prior.sampler, prior.density(backbone), start.u, noise.derive("chain"))

    def energies() -> None:
        (prior.tilt(negative).sum(1).mean() - prior.tilt(positive).sum(1).mean()).backward()
        optimizer.zero_grad(set_to_none=True)

    t = take_turns({"step": training_step, "chain": chain, "energies": energies}, repeats)
    parts = [a + b for a, b in zip(t["chain"], t["energies"], strict=True)]
    return ratio(name, f"training step / (chain of {steps} + energies)", t["step"], parts, 1.10)


def chain_work(subject: Subject, steps: int) -> Any:
    """Return a function that runs a chain of the subject's prior."""
    u = Noise(0, "start").normal(subject.batch, subject.backbone.layout.dim)
    density = subject.prior.density(subject.backbone)
    return lambda: run(ULA.from_std(0.4), density, u, Noise(0, "speed"), steps)


def growth(steps: int, repeats: int, chains: int) -> dict[str, dict[int, float]]:
    """Measure the milliseconds of a chain for repeatedly doubled numbers of chains, steps and layers."""
    settings = {
        "chains": {n: (deep(2, n), steps) for n in (chains, 2 * chains, 4 * chains, 8 * chains)},
        "steps": {k * steps: (deep(2, chains), k * steps) for k in (1, 2, 4, 8)},
        "layers": {n: (deep(n, chains), steps) for n in (2, 4, 8, 16)},
    }
    variants = {(axis, n): chain_work(*setting) for axis, points in settings.items() for n, setting in points.items()}
    times = take_turns(variants, repeats)
    medians = {key: 1e3 * statistics.median(seconds) for key, seconds in times.items()}
    return {axis: {n: medians[axis, n] for n in points} for axis, points in settings.items()}


def peak_memory(steps: int, chains: int) -> float:
    """Return the peak MiB of a fresh process during a chain."""
    command = [sys.executable, __file__, "--memory-of", str(steps), "--chains", str(chains)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report_peak(steps: int, chains: int) -> None:
    """Run one chain and print this process's peak memory in MiB."""
    torch.set_num_threads(1)
    chain_work(deep(2, chains), steps)()
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def show_growth(table: dict[str, dict[int, float]], memory: dict[int, float], state: float) -> None:
    """Print the factor of time for each doubling, and the peak memory of a chain."""
    for axis, points in table.items():
        sizes = list(points)
        cells = [f"{sizes[0]}: {points[sizes[0]]:.2f} ms"]
        cells += [f"{b}: {points[b]:.2f} ms (x{points[b] / points[a]:.2f})" for a, b in pairwise(sizes)]
        print(f"{axis:<7}", ", ".join(cells))
    cells = [f"{steps} steps: {peak:.0f} MiB" for steps, peak in memory.items()]
    print(f"memory  {', '.join(cells)} at most (one state of the chains is {state:.1f} MiB)")


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--steps", type=int, default=20, help="steps of a chain")
    parser.add_argument("--chains", type=int, default=64, help="smallest number of chains in the table of growth")
    parser.add_argument("--memory-chains", type=int, default=4096, help="number of chains for the peak of memory")
    parser.add_argument("--repeats", type=int, default=50, help="number of timings of each variant")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of is not None:
        return report_peak(given.memory_of, given.chains)
    memory = {steps: peak_memory(steps, given.memory_chains) for steps in (given.steps, 8 * given.steps)}
    state = given.memory_chains * deep(2, 1).backbone.layout.dim * 4 / 2**20
    results = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        rows = [step_ratio(name, given.steps, given.repeats) for name in given.models]
        table = growth(given.steps, max(2, given.repeats // 5), given.chains)
        show("Training step of the joint prior, per step", rows)
        show_growth(table, memory, state)
        results.append(as_json(rows, growth_ms=table, peak_mib=memory, repeats=given.repeats))
    write(given.json, results)


if __name__ == "__main__":
    main()
