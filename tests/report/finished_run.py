"""Run folders made by hand: all that a page or a comparison is drawn from, without a model."""

import json

import torch

from hebm.report.figure_data import Band, ChainData, Figures
from hebm.report.grids import save_grid
from hebm.store.run_folder import RunFolder

CONFIG = """\
name = "{name}"
seed = {seed}

[data]
type = "digits"

[backbone]
type = "two-layer"

[prior]
type = "{prior}"

[train]
type = "two-phase"
"""


def metrics(**changes):
    fd = {"gaussian": 82.96, "prior": 51.93, "reconstruction": 43.13, "scaled_gaussian": 71.4}
    entries = {
        "gap_closed": 0.77916,
        "gap_closed_scaled_gaussian": 0.29,
        "fd": {**fd, "scaled_gaussian_temperature": 0.9},
        "kid": {"prior": {"mean": 0.0123, "std": 0.0004}, "subsets": 100},
        "extractor": {"name": "classifier", "sha256": "ab" * 32, "accuracy": 0.977},
        "n": 2000,
        "n_reference": 1498,
        "split": "train",
        "decode": "mean",
        "range": "[-1, 1] as 8-bit pixels",
        "seed": 0,
        "versions": {"hebm": "0.1"},
        "seconds": 3.5,
    }
    return {**entries, **changes}


def finished_run(path, name="demo", seed=0, prior="joint", data="f00d", with_samples=True, **changes):
    folder = RunFolder(path / name)
    manifest = {
        "hebm": "0.1",
        "plugins": {},
        "data": {"train": data},
        "torch": "2.9",
        "hardware": {"cpus": 2},
    }
    folder.create_or_open(CONFIG.format(name=name, seed=seed, prior=prior), manifest)
    folder.write_metrics(metrics(seed=seed, **changes))
    records = [
        {"phase": phase, "step": 10 * i, "total_step": 600 * k + 10 * i, "loss": 5.0 / i, "skipped": 0}
        for k, phase in enumerate(("backbone", "prior"))
        for i in range(1, 21)
    ]
    folder.metrics_log.write_text("".join(json.dumps(record) + "\n" for record in records))
    if with_samples:
        samples(folder)
    return folder


def samples(folder):
    images = torch.linspace(-1, 1, 16 * 64).view(16, 1, 8, 8)
    kinds = ("data", "reconstruction", "gaussian", "prior", "chain")
    for kind in kinds:
        save_grid(images, folder.samples / f"{kind}.png", 4)
    band = Band([0, 5, 10], [1.0, 2.0, None], [0.5, 1.5, None], [1.5, 2.5, None])
    chain = ChainData(10, 16, 1, band, band, band, [0, 5, 10], 0.61)
    tilts = {"posterior": [1.0, 2.0], "prior": [0.9, None], "gaussian": [-1.0, 0.0]}
    Figures({kind: f"{kind}.png" for kind in kinds}, chain, tilts).write(folder.samples)
