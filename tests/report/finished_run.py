"""Run folders made by hand: all that a page or a comparison is drawn from, without a model."""

import json

import torch

from hebm.evaluation.metric import SHARE, Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report.grids import save_grid
from hebm.report.plot_data import Band, ChainData, Plots
from hebm.store import sums
from hebm.store.metrics import json_bytes
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


CLASSIFIER = {"classifier": {"name": "classifier", "sha256": "ab" * 32, "accuracy": 0.977}}
FD = {"gaussian": 82.96, "prior": 51.93, "reconstruction": 43.13, "scaled-gaussian": 71.4}
BY_CLASSIFIER = {"extractor": "classifier"}


def measurements(gap=0.77916, control=0.29):
    """What metrics of three sorts return: by kind of images, a share with a summary, a number with its error."""
    gaps = {"prior": gap, "scaled-gaussian": control}
    summaries = {"prior": "The learned prior closes most of the gap.", "scaled-gaussian": ""}
    with_gap = {"unit": SHARE, "better": "higher", "conditions": BY_CLASSIFIER}
    return (
        *(
            Measurement("fd", value, "Fréchet distance", kind=kind, better="lower", conditions=BY_CLASSIFIER)
            for kind, value in FD.items()
        ),
        *(
            Measurement("gap-closed", value, "gap closed", kind=kind, summary=summaries[kind], **with_gap)
            for kind, value in gaps.items()
        ),
        Measurement("temperature", 0.9, "temperature", kind="scaled-gaussian", detail=True),
        Measurement("nll", 81.23, "−log p(x)", 0.32, "nats per image", better="lower", conditions={"k": 100}),
    )


INCEPTION = {"inception": {"name": "inception", "sha256": "cd" * 32}}
BY_INCEPTION = (
    *(
        Measurement(
            "fd",
            value,
            "Fréchet distance",
            kind=kind,
            better="lower",
            conditions={"extractor": "inception"},
            note="2000 images are few",
        )
        for kind, value in {"gaussian": 4.2, "prior": 2.5}.items()
    ),
    Measurement(
        "gap-closed",
        0.5,
        "gap closed",
        kind="prior",
        unit=SHARE,
        better="higher",
        conditions={"extractor": "inception"},
        summary="In another extractor it closes half.",
    ),
)
"""What a second extractor found."""


def results(gap=0.77916, control=0.29, more=(), without=(), **conditions):
    """Those measurements but for names in `without`, and `more`, under the usual conditions or others."""
    usual = {
        "extractors": CLASSIFIER,
        "n": 2000,
        "n_reference": 1498,
        "split": "train",
        "decode": "mean",
        "chain_steps": None,
        "after": None,
        "range": "[-1, 1] as 8-bit pixels",
        "seed": 0,
        "versions": {"hebm": "0.1"},
    }
    found = tuple(m for m in measurements(gap, control) if m.name not in without)
    return Results((*found, *more), {**usual, **conditions}, 3.5, 2.5)


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
    folder.write_metrics(results(seed=seed, **changes).to_json())
    records = [
        {"phase": phase, "step": 10 * i, "total_step": 600 * k + 10 * i, "loss": 5.0 / i, "skipped": 0}
        for k, phase in enumerate(("backbone", "prior"))
        for i in range(1, 21)
    ]
    folder.metrics_log.write_text("".join(json.dumps(record) + "\n" for record in records))
    if with_samples:
        samples(folder)
    return folder


def named_evaluation(folder, name, **changes):
    """Add an evaluation with a name to a finished run."""
    sums.write(folder.path, {sums.evaluation_file(name): json_bytes(results(**changes).to_json())})


def samples(folder):
    images = torch.linspace(-1, 1, 16 * 64).view(16, 1, 8, 8)
    kinds = ("data", "reconstruction", "gaussian", "prior", "chain")
    for kind in kinds:
        save_grid(images, folder.samples / f"{kind}.png", 4)
    band = Band([0, 5, 10], [1.0, 2.0, None], [0.5, 1.5, None], [1.5, 2.5, None])
    chain = ChainData(10, 16, 1, band, band, band, [0, 5, 10], 0.61)
    tilts = {"posterior": [1.0, 2.0], "prior": [0.9, None], "gaussian": [-1.0, 0.0]}
    Plots({kind: f"{kind}.png" for kind in kinds}, chain, tilts).write(folder.samples)
