"""Time a Langevin step of the 2-layer models on a GPU: eager, compiled, and replayed from a CUDA graph.

python benchmarks/speed/gpu_chain.py --json gpu_chain.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from interleaved import Ratio, as_json, ratio, show, take_turns, write
from models import MODELS, Subject

from hebm.compilation import Compiled
from hebm.cuda_graphs import Graphed
from hebm.interfaces import Sampler
from hebm.noise import Noise
from hebm.sampling import run
from hebm_plugins.samplers.ula import ULA

BAR = 1 / 3


def chain(subject: Subject, sampler: Sampler, batch: int, steps: int) -> torch.Tensor:
    """Run a whole chain, including recording, and wait until the GPU has finished."""
    noise = Noise(0, "speed", device="cuda", block=max(64, batch))
    start = noise.derive("start").normal(batch, subject.backbone.layout.dim)
    u = run(sampler, subject.prior.density(subject.backbone), start, noise.derive("chain"), steps).u
    torch.cuda.synchronize()
    return u


def measure(name: str, batch: int | None, steps: int, repeats: int) -> list[Ratio]:
    """Return the rows of one model. Raise if the replayed chain differs from the eager one."""
    subject = MODELS[name]()
    for module in (subject.backbone, subject.prior):
        module.cuda().eval()
    eager, rows = ULA(steps=steps, step_size=0.1), batch or subject.batch
    samplers = {"eager": eager, "compiled": Compiled(eager), "graph": Graphed(eager)}
    chains = {key: chain(subject, sampler, rows, steps) for key, sampler in samplers.items()}
    if not torch.equal(chains["graph"], chains["eager"]):
        raise SystemExit(
            f"{name}: the replayed chain differs by {float((chains['graph'] - chains['eager']).abs().max())}"
        )
    t = take_turns({k: (lambda s=s: chain(subject, s, rows, steps)) for k, s in samplers.items()}, repeats, steps)
    label = f"{name} x{rows}"
    return [
        ratio(label, "eager / eager", t["eager"], t["eager"]),
        ratio(label, "compiled / eager", t["compiled"], t["eager"]),
        ratio(label, "CUDA graph, recording included / eager, bit-equal", t["graph"], t["eager"], BAR),
    ]


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--batches", nargs="+", type=int, default=[0], help="numbers of chains; 0 for that of the model"
    )
    parser.add_argument("--steps", type=int, default=60, help="steps of a chain")
    parser.add_argument("--repeats", type=int, default=20, help="number of timings of each variant")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this script needs a GPU")
    torch.set_num_threads(2)  # with one thread, `clock` would measure CPU time
    rows = [row for name in given.models for b in given.batches for row in measure(name, b, given.steps, given.repeats)]
    show(f"Langevin step on {torch.cuda.get_device_name()}, per step of {given.steps}", rows)
    write(given.json, [as_json(rows, gpu=torch.cuda.get_device_name(), steps=given.steps, repeats=given.repeats)])


if __name__ == "__main__":
    main()
