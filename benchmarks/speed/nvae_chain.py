"""Time a prior chain on an NVAE: published code, hebm unfolded and folded. Measure its memory at 256 x 256.

python benchmarks/speed/nvae_chain.py --json nvae_chain.json
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import torch
from interleaved import Ratio, Times, Work, as_json, ratio, show, take_turns, write
from nvae_models import CASES, LARGE, S2, GroupEnergies, Subject, make, published_chain, published_gradient
from torch import Tensor

from hebm.densities import TiltedPrior, frozen
from hebm.noise import Noise
from hebm.sampling import run
from hebm.tilts import Tilt
from hebm_plugins.nvae.backbone import NVAEBackbone
from hebm_plugins.samplers.ula import ULA

TOLERANCE = 1e-6
"""Allowed relative difference of gradients in float32."""


def density_on(backbone: NVAEBackbone, energies: GroupEnergies) -> TiltedPrior:
    """Return the density of the published chain. Its Gaussian terms are those of z, hence `jacobian`."""
    return TiltedPrior(backbone, Tilt(energies.tilt, (energies,)), jacobian=True)


def chain(backbone: NVAEBackbone, energies: GroupEnergies, u: Tensor, steps: int) -> Work:
    """Return a function that runs the chain."""
    return lambda: run(ULA(step_size=S2), density_on(backbone, energies), u, Noise(0, "speed"), steps)


# ---------------------------------------------------------------- time


def check_equal(subject: Subject, u: Tensor) -> float:
    """Return the largest relative difference of the gradients. Raise if it exceeds the tolerance."""
    layout = subject.backbone.layout
    published = layout.join(published_gradient(subject, layout.split(u)))
    ours = [density_on(b, subject.energies).value_and_grad(u).grad for b in (subject.backbone, subject.folded)]
    error = max(float((grad - published).abs().max() / published.abs().max()) for grad in ours)
    if not error <= TOLERANCE:
        raise SystemExit(f"gradients differ by {error:.1e}, allowed is {TOLERANCE:.0e}")
    return error


def time_variants(subject: Subject, u: Tensor, steps: int, repeats: int) -> Times:
    """Measure the seconds per step of each form of the chain."""

    def published_frozen() -> None:
        with frozen(subject.published):
            published_chain(subject, u, steps)

    variants: dict[str, Work] = {
        "published": lambda: published_chain(subject, u, steps),
        "frozen": published_frozen,
        "unfolded": chain(subject.backbone, subject.energies, u, steps),
        "folded": chain(subject.folded, subject.energies, u, steps),
    }
    return take_turns(variants, repeats, steps)


def measure(name: str, batch: int | None, steps: int, repeats: int) -> tuple[list[Ratio], float]:
    """Return the rows of one case, and the largest relative difference of gradients."""
    case = CASES[name]
    subject = make(case.recipe, case.side)
    u = Noise(0, "start").normal(batch or case.batch, subject.backbone.layout.dim)
    error = check_equal(subject, u)
    t = time_variants(subject, u, steps, repeats)
    rows = [
        ratio(name, "run on the folded net / published step", t["folded"], t["published"], case.bar),
        ratio(name, "run on the folded net / published step, net frozen", t["folded"], t["frozen"], case.bar),
        ratio(name, "run on the folded net / run on the unfolded one", t["folded"], t["unfolded"], 1.0),
        ratio(name, "run on the unfolded net / published step", t["unfolded"], t["published"]),
    ]
    return rows, error


# ---------------------------------------------------------------- memory


def peak_memory(steps: int, side: int) -> dict[str, float]:
    """Return the peak MiB of a fresh process before a chain and during it."""
    command = [sys.executable, __file__, "--memory-of", str(steps), "--memory-side", str(side)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {"before": float(said[0]), "peak": float(said[1])}


def report_peak(steps: int, side: int) -> None:
    """Run one chain and print this process's peak memory before and after it, in MiB."""
    torch.set_num_threads(1)
    subject = make(LARGE, side)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    chain(subject.folded, subject.energies, Noise(0, "start").normal(2, subject.folded.layout.dim), steps)()
    print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def show_memory(side: int, memory: dict[int, dict[str, float]]) -> None:
    """Print the peak memory by number of steps."""
    cells = [f"{steps} steps: {peak['peak']:.0f} MiB ({peak['before']:.0f} before)" for steps, peak in memory.items()]
    if cells:
        print(f"memory  2 chains at {side} x {side}: {', '.join(cells)}")


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batch", type=int, help="number of chains; by default that of each case")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--steps", type=int, default=2, help="steps of a chain")
    parser.add_argument("--repeats", type=int, default=15, help="number of timings of each variant")
    parser.add_argument("--memory-side", type=int, default=256, help="side of the images, for the peak of memory")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="do not measure the peak of memory")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of is not None:
        return report_peak(given.memory_of, given.memory_side)
    lengths = (given.steps, 8 * given.steps) if given.memory else ()
    memory = {steps: peak_memory(steps, given.memory_side) for steps in lengths}
    results = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        measured = {name: measure(name, given.batch, given.steps, given.repeats) for name in given.cases}
        rows = [row for found, _ in measured.values() for row in found]
        errors = {name: error for name, (_, error) in measured.items()}
        show("Langevin step of a prior chain on an NVAE, per step", rows)
        show_memory(given.memory_side, memory)
        results.append(as_json(rows, peak_mib=memory, steps=given.steps, repeats=given.repeats, errors=errors))
    write(given.json, results)


if __name__ == "__main__":
    main()
