"""Small sweeps of the tiny experiment."""

import sys

import tomli_w
from real_runs import tiny

from hebm.config.sweep_file import Sweep
from hebm.sweeps.planning import plan

VARIANTS = """\
base = "experiment.toml"
seeds = [0, 1]

[variants.joint]

[variants.gaussian]
prior.type = "gaussian"
"""


def sweep_file(folder, text=VARIANTS, **tables):
    """A sweep file next to the file of the tiny experiment; `tables` change that."""
    folder.joinpath("experiment.toml").write_text(tomli_w.dumps(tiny(**tables)))
    path = folder / "small.toml"
    path.write_text(text)
    return path


def planned(folder, text=VARIANTS, changes=(), **tables):
    """The runs of a sweep, to live in `folder / "runs"`."""
    return plan(Sweep.load(sweep_file(folder, text, **tables), changes), folder / "runs")


def stand_in(folder, behaviour):
    """A command line in the place of `hebm`: `behaviour` is Python that knows its run's `name`."""
    script = folder / "stand_in.py"
    name = "[text for text in sys.argv if text.startswith('name=')][0][6:-1]"
    script.write_text(f"import os, signal, sys, time\nname = {name}\n{behaviour}\n")
    return [sys.executable, "-S", str(script)]
