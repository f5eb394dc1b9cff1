"""Compare the MCMC loop with loops that users write, the published chain, a compiled chain and blackjax.

python benchmarks/speed/kernel.py --threads 1 2 --json kernel.json
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path

import blackjax_chains
import torch
from interleaved import Ratio, Times, as_json, ratio, show, take_turns, write
from models import MODELS, Subject, published_chain, users_chain, users_log_tilt
from torch import Tensor

from hebm.compilation import Compiled
from hebm.densities import LogDensity, frozen
from hebm.noise import Noise
from hebm.sampling import Trace, run
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.ula import ULA

S = 0.4  # the joint EBM's step: h = s²
TOLERANCE = 1e-5


@torch.no_grad()
def bare_loop(sampler: ULA, density: LogDensity, u: Tensor, noise: Noise, steps: int) -> Tensor:
    """Run ULA without any overhead."""
    h, root = sampler.step_size, math.sqrt(sampler.step_size)
    with frozen(*density.modules):
        for _ in range(steps):
            _, grad = density.value_and_grad(u)
            u = u + 0.5 * h * grad + root * noise.normal(*u.shape)
    return u


def usual_loop(sampler: ULA, density: LogDensity, u: Tensor, noise: Noise, steps: int) -> Tensor:
    """Run ULA with −|u|²/2 in the graph: one `autograd.grad` of the whole log density."""
    h, root = sampler.step_size, math.sqrt(sampler.step_size)
    with frozen(*density.modules):
        for _ in range(steps):
            leaf = u.detach().requires_grad_()
            value = density.remainder(leaf) - 0.5 * leaf.square().sum(1)
            (grad,) = torch.autograd.grad(value.sum(), leaf)
            u = u + 0.5 * h * grad + root * noise.normal(*u.shape)
    return u


@torch.no_grad()
def plain_noise_loop(sampler: ULA, density: LogDensity, u: Tensor, generator: torch.Generator, steps: int) -> Tensor:
    """Run the bare loop with one `torch.randn` per step and a single seed."""
    h, root = sampler.step_size, math.sqrt(sampler.step_size)
    with frozen(*density.modules):
        for _ in range(steps):
            _, grad = density.value_and_grad(u)
            u = u + 0.5 * h * grad + root * torch.randn(u.shape, generator=generator)
    return u


def check_gradient(subject: Subject, density: LogDensity, u: Tensor) -> None:
    """Raise unless the user's loop has the gradient of the density at u `(B, D)`, up to rounding."""
    leaf = u.clone().requires_grad_()
    (grad,) = torch.autograd.grad(users_log_tilt(subject, leaf), leaf)
    error = float((grad - density.remainder_and_grad(u).grad).abs().max())
    if error > TOLERANCE:
        raise SystemExit(f"the user's loop has another gradient: it differs by {error:.1e}")


def noise_in_one_block(batch: int) -> Noise:
    """Return noise whose rows are all in one block."""
    return Noise(0, "speed", block=max(64, batch))


def check_equal(subject: Subject, sampler: ULA, twin: Compiled | None, steps: int) -> float | None:
    """Raise unless `run` equals the bare loop exactly and other forms up to rounding. Return the compiled error."""
    density, batch = subject.prior.density(subject.backbone), subject.batch
    u = Noise(0, "start").normal(batch, subject.backbone.layout.dim)
    check_gradient(subject, density, u)
    ours = run(sampler, density, u, noise_in_one_block(batch), steps).u
    bare = bare_loop(sampler, density, u, noise_in_one_block(batch), steps)
    usual = usual_loop(sampler, density, u, noise_in_one_block(batch), steps)
    if not torch.equal(ours, bare):
        raise SystemExit(f"run differs from the bare loop by {float((ours - bare).abs().max()):.1e}, expected 0")
    if not torch.allclose(ours, usual, atol=TOLERANCE):
        raise SystemExit(f"run differs from the usual loop by {float((ours - usual).abs().max()):.1e}")
    if twin is None:
        return None
    error = float((run(twin, density, u, noise_in_one_block(batch), steps).u - ours).abs().max())
    if error > TOLERANCE:
        raise SystemExit(f"the compiled step differs by {error:.1e}, allowed is {TOLERANCE:.0e}")
    return error


def time_variants(subject: Subject, sampler: ULA, twin: Compiled | None, steps: int, repeats: int) -> Times:
    """Measure the seconds per step of each form of the chain."""
    density, batch = subject.prior.density(subject.backbone), subject.batch
    u = Noise(0, "start").normal(batch, subject.backbone.layout.dim)
    generator = torch.Generator().manual_seed(0)

    def by_hand() -> Tensor:
        with frozen(*density.modules):
            return users_chain(subject, sampler.step_size, u, generator, steps)

    variants = {
        "run": lambda: run(sampler, density, u, noise_in_one_block(batch), steps),
        "by hand": by_hand,
        "bare": lambda: bare_loop(sampler, density, u, noise_in_one_block(batch), steps),
        "trace": lambda: run(sampler, density, u, noise_in_one_block(batch), steps, Trace()),
        "usual": lambda: usual_loop(sampler, density, u, noise_in_one_block(batch), steps),
        "published": lambda: published_chain(subject, steps, S, generator),
    }
    if twin is not None:
        variants["compiled"] = lambda: run(twin, density, u, noise_in_one_block(batch), steps)
    return take_turns(variants, repeats, steps)


def time_noise(subject: Subject, sampler: ULA, steps: int, repeats: int, batch: int = 256) -> Times:
    """Measure the seconds per step of 256 chains, with noise in one block, in four blocks, and from `torch.randn`."""
    density = subject.prior.density(subject.backbone)
    u = Noise(0, "start").normal(batch, subject.backbone.layout.dim)
    generator = torch.Generator().manual_seed(0)
    variants = {
        "plain": lambda: plain_noise_loop(sampler, density, u, generator, steps),
        "one": lambda: run(sampler, density, u, Noise(0, "speed", block=batch), steps),
        "four": lambda: run(sampler, density, u, Noise(0, "speed", block=batch // 4), steps),
    }
    return take_turns(variants, repeats, steps)


def time_blackjax(subject: Subject, steps: int, repeats: int) -> list[Ratio]:
    """Measure compiled chains of ULA and MALA over those of blackjax, on a model with one latent layer."""
    density, h = subject.prior.density(subject.backbone), S**2
    u = Noise(0, "start").normal(subject.batch, subject.backbone.layout.dim)
    blackjax_chains.check_gradient(subject, density, u)
    theirs = blackjax_chains.chains(subject, h, u, steps)
    twins = {"ula": Compiled(ULA(step_size=h)), "mala": Compiled(MALA(step_size=h))}

    def ours(sampler: Compiled) -> object:
        return run(sampler, density, u, noise_in_one_block(subject.batch), steps)

    variants = {name: partial(ours, twin) for name, twin in twins.items()}
    t = take_turns(variants | {f"blackjax {name}": chain for name, chain in theirs.items()}, repeats, steps)
    return [ratio("mlp", f"compiled run of {n} / blackjax", t[n], t[f"blackjax {n}"], 1.3) for n in twins]


def measure(
    name: str, steps: int, repeats: int, compile: bool, with_blackjax: bool
) -> tuple[list[Ratio], float | None]:
    """Return the rows of one model, and the largest difference of its compiled chain."""
    subject, sampler = MODELS[name](), ULA.from_std(S)
    twin = Compiled(sampler) if compile else None
    error = check_equal(subject, sampler, twin, steps)
    t = time_variants(subject, sampler, twin, steps, repeats)
    noise = time_noise(subject, sampler, steps, repeats)
    joint = 1.0 if len(subject.backbone.layout) > 1 else None  # with one layer, the published form is a bare loop
    rows = [
        ratio(name, "run / loop that a user writes by hand", t["run"], t["by hand"], 1.1),
        ratio(name, "run / bare loop, bit-equal", t["run"], t["bare"], 1.05),
        ratio(name, "run with energy trace / bare loop", t["trace"], t["bare"], 1.08),
        ratio(name, "run / usual loop (Gaussian terms by autograd)", t["run"], t["usual"], 1.0),
        ratio(name, "run / published chain", t["run"], t["published"], joint),
        ratio(name, "256 chains: derived noise, 1 block / one torch.randn", noise["one"], noise["plain"]),
        ratio(name, "256 chains: derived noise, 4 blocks / 1 block", noise["four"], noise["one"]),
    ]
    if twin is not None:
        rows += [
            ratio(name, "compiled run / run", t["compiled"], t["run"], 1.0),
            ratio(name, "compiled run / published chain", t["compiled"], t["published"], 1.0),
        ]
    if with_blackjax:
        rows += time_blackjax(subject, steps, repeats)
    return rows, error


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--steps", type=int, default=20, help="steps of a chain")
    parser.add_argument("--repeats", type=int, default=100, help="number of timings of each variant")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="do not time torch.compile")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    with_blackjax = given.compile and "mlp" in given.models and given.threads == [1]
    if with_blackjax and (why := blackjax_chains.missing()) is not None:
        print(f"the rows of blackjax are skipped: {why}")
        with_blackjax = False
    if with_blackjax:
        blackjax_chains.use_one_core()
    results = []
    for threads in given.threads:
        torch.set_num_threads(threads)
        measured = {
            name: measure(name, given.steps, given.repeats, given.compile, with_blackjax and name == "mlp")
            for name in given.models
        }
        rows = [row for found, _ in measured.values() for row in found]
        errors = {name: error for name, (_, error) in measured.items()}
        show("Langevin step, per step", rows)
        results.append(as_json(rows, steps=given.steps, repeats=given.repeats, compiled_error=errors))
    write(given.json, results)


if __name__ == "__main__":
    main()
