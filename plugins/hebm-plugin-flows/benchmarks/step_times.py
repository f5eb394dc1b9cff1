"""Time a training step and a draw of `flow`: python benchmarks/step_times.py

CPU time of one thread, the median of 20 steps with 100 posterior draws of 48 latent numbers, and of 5 draws of 500
samples. The settings take turns, so other programs slow all of them alike.
"""

import statistics
import time

import torch
from hebm import ImageSpec, Noise, Posterior, TwoLayer
from hebm.interfaces import Progress

from hebm_flows.recipe import Flow

SETTINGS = {
    "spline": Flow(),
    "spline, width 128": Flow(width=128),
    "spline, 4 bins": Flow(bins=4),
    "spline, passes 2": Flow(passes=2),
    "affine": Flow(kind="affine"),
    "affine, 5 transforms": Flow(kind="affine", transforms=5),
}


def cpu_time(work):
    """Return the CPU time of a call in milliseconds."""
    started = time.process_time()
    work()
    return 1e3 * (time.process_time() - started)


def main():
    """Print the CPU time of a training step for each kind of flow."""
    torch.set_num_threads(1)
    backbone = TwoLayer(z_dims=(16, 32)).build(ImageSpec(1, 28, 28))
    with torch.no_grad():
        posterior = Posterior(backbone.latents(Noise(0, "u").normal(100, 48)))
    priors = {name: recipe.build(backbone) for name, recipe in SETTINGS.items()}

    def step(prior):
        prior.zero_grad()
        prior.objective(backbone, posterior, Noise(0), Progress(0, 1)).total.backward()

    steps, draws = {name: [] for name in priors}, {name: [] for name in priors}
    for k in range(20):
        for name, prior in priors.items():
            steps[name].append(cpu_time(lambda prior=prior: step(prior)))
            if k < 5:
                draws[name].append(cpu_time(lambda prior=prior, k=k: prior.sample(backbone, 500, Noise(k))))
    print(f"one thread, {torch.backends.cpu.get_cpu_capability()}")
    print("| flow | step, ms | 500 draws, ms |\n|---|---|---|")
    for name in priors:
        print(f"| {name} | {statistics.median(steps[name]):.0f} | {statistics.median(draws[name]):.0f} |")


if __name__ == "__main__":
    main()
