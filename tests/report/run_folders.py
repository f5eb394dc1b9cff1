"""A run folder with every file that hebm reads again, made without a model, and all readings of it."""

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from finished_run import finished_run, named_evaluation

from hebm.analysis.compared_plot import Curve, Plot
from hebm.analysis.section import Picture, Section, Table, read_sections
from hebm.report.comparison import compared, named_evaluations
from hebm.report.grids import save_grid
from hebm.report.plot_data import read_plots
from hebm.store import checkpoints
from hebm.store.checkpoints import Checkpoint
from hebm.store.metrics import MetricsLog
from hebm.store.own_sums import without_sum, write_summed
from hebm.stored_runs import read_run
from hebm.training.saved_state import saved_state

STATE = {
    "finished": True,
    "plateau": {"window": 0, "total": 0.0, "count": 0, "before": None, "ended": False},
    "total_used": False,
    "skipped": 0,
    "in_a_row": 0,
    "counts": {"prior_chains": 3.0},
    "seconds": 2.5,
}
IMAGES = {"channels": 1, "height": 8, "width": 8, "classes": ["0"], "binary": False, "attributes": []}
SECTION = Section(
    "ood",
    ("text",),
    (Picture("ood.png", "picture"),),
    (Table("t", ("a", "b"), (("1", "2"),)),),
    {"auroc": 0.5},
    ("3 s",),
    (Plot("plot", "x", (Curve("c", (1.0, 2.0), (0.5, None), (0.1, None), ("m", "n")),), {"level": 1.0}, {"n": "3"}),),
)


def whole_run(path):
    """A run folder with metrics, a named evaluation, a log, plots, an analysis and a checkpoint."""
    folder = finished_run(path)
    named_evaluation(folder, "k100")
    contents = folder.read()
    manifest = {**contents.manifest, "images": IMAGES, "phases": {"backbone": 200, "prior": 800}}
    manifest["paths"] = {"data.root": {"written": "a", "absolute": "/a"}}
    folder.manifest.write_text(json.dumps(manifest))
    folder.accept()
    (folder.analyses / "ood").mkdir(parents=True)
    SECTION.write(folder.analyses / "ood", {"seed": 0})
    save_grid(torch.zeros(4, 1, 8, 8), folder.analyses / "ood" / "ood.png")
    saved = Checkpoint("prior", 800, 1000, {"prior": {"w": torch.zeros(2)}}, STATE)
    checkpoints.save(folder.checkpoints, saved, 2, manifest["run_id"])
    folder.report.write_text("")
    return folder


def readings(folder):
    """Everything that reads a run folder without building or drawing anything, by name."""
    run = lambda: read_run(folder.path)  # noqa: E731
    return {
        "open": run,
        "images": lambda: run().images,
        "reached": lambda: run().reached(),
        "checkpoint": lambda: saved_state(run().checkpoint()),
        "log": lambda: MetricsLog(folder.metrics_log).read(),
        "compare": lambda: named_evaluations(compared(folder)),
        "analyses": lambda: read_sections(folder.analyses),
        "plots": lambda: read_plots(folder.samples),
    }


def sealed(folder, file, content):
    """Write a file whose sum hebm checks together with its sum, as a program would that knows how."""
    file.write_bytes(content)
    if file.name in ("section.json", "plots.json"):
        table = json.loads(content)
        write_summed(file, without_sum(table))
    if file.parent.parent == folder.checkpoints:
        digest = hashlib.sha256(content).hexdigest()
        (file.parent / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
    elif file.suffix == ".json" and file.parent in (folder.path, folder.path / "evaluations"):
        sums = folder.path / "SHA256SUMS"
        name = file.relative_to(folder.path).as_posix()
        lines = [line for line in sums.read_text().splitlines() if not line.endswith(f"  {name}")]
        sums.write_text("\n".join([*lines, f"{hashlib.sha256(content).hexdigest()}  {name}"]) + "\n")


@contextmanager
def without_privileges():
    """Be a user whom permissions bind; yield a folder of that user."""
    root, nobody = os.geteuid() == 0, 65534
    with tempfile.TemporaryDirectory() as folder:
        if root:
            os.chown(folder, nobody, nobody)
            os.seteuid(nobody)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)
