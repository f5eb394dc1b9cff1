"""Time one conditional Langevin step of the diffusion-learned prior: published code, hebm, and a hand-written loop.

python benchmarks/speed/conditional_step.py --json conditional_step.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusion_models import CASES, Subject, density_of, folded_apart, leanest_chain, make, published_chain
from interleaved import Ratio, Times, as_json, ratio, show, take_turns, write
from torch import Tensor

from hebm.noise import Noise
from hebm.sampling import run
from hebm_plugins.energies.layerwise_time import FoldedLayerwise
from hebm_plugins.samplers.ula import ULA

TOLERANCE = 1e-4
"""Allowed difference of chain ends in float32, relative to their largest coordinate."""


def chain(subject: Subject, folded: FoldedLayerwise, noise: Noise, steps: int) -> Tensor:
    """Return u after `steps` steps of size b_t."""
    return run(ULA(step_size=1.0), density_of(subject, folded), subject.above, noise, steps).u


def check_equal(subject: Subject, steps: int = 2) -> float:
    """Return the largest relative difference of chain ends. Raise if it exceeds the tolerance."""
    folded, apart = subject.energy.folded(subject.t), folded_apart(subject.energy, subject.t)
    published = published_chain(subject, Noise(0, "check"), steps)
    ends = [chain(subject, form, Noise(0, "check"), steps) for form in (folded, apart)]
    ends.append(leanest_chain(subject, folded, Noise(0, "check"), steps))
    error = max(float((end - published).abs().max() / published.abs().max()) for end in ends)
    if not error <= TOLERANCE:
        raise SystemExit(f"chain ends differ by {error:.1e}, allowed is {TOLERANCE:.0e}")
    return error


def time_variants(subject: Subject, steps: int, repeats: int) -> Times:
    """Measure the seconds per step of each form of the chain."""
    folded, apart = subject.energy.folded(subject.t), folded_apart(subject.energy, subject.t)
    noise = Noise(0, "speed")

    def published(training: bool) -> None:
        subject.energy.train(training)
        published_chain(subject, noise, steps)
        subject.energy.eval()

    variants = {
        "train": lambda: published(True),
        "eval": lambda: published(False),
        "ours": lambda: chain(subject, folded, noise, steps),
        "apart": lambda: chain(subject, apart, noise, steps),
        "leanest": lambda: leanest_chain(subject, folded, noise, steps),
        "folding": lambda: [subject.energy.folded(subject.t) for _ in range(steps)],
    }
    return take_turns(variants, repeats, steps)


def measure(name: str, batch: int | None, steps: int, repeats: int) -> tuple[list[Ratio], float]:
    """Return the rows of one case, and the largest relative difference of chain ends."""
    case = CASES[name]
    subject = make(case._replace(batch=batch or case.batch))
    error = check_equal(subject)
    t = time_variants(subject, steps, repeats)
    rows = [
        ratio(name, "run on the folded energy / leanest loop on it", t["ours"], t["leanest"], case.bar),
        ratio(name, "run on the folded energy / published step, training", t["ours"], t["train"], 1.0),
        ratio(name, "run on the folded energy / published step, evaluation", t["ours"], t["eval"], 1.0),
        ratio(name, "layers of one shape together / apart", t["ours"], t["apart"]),
        ratio(name, "folding, once per chain / one step", t["folding"], t["ours"]),
    ]
    return rows, error


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batch", type=int, help="number of chains; by default that of each case")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--steps", type=int, default=5, help="steps of a chain")
    parser.add_argument("--repeats", type=int, default=15, help="number of timings of each variant")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    results = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        measured = {name: measure(name, given.batch, given.steps, given.repeats) for name in given.cases}
        rows = [row for found, _ in measured.values() for row in found]
        errors = {name: error for name, (_, error) in measured.items()}
        show("Conditional Langevin step of the diffusion-learned prior, per step", rows)
        results.append(as_json(rows, steps=given.steps, repeats=given.repeats, errors=errors))
    write(given.json, results)


if __name__ == "__main__":
    main()
