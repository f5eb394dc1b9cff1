"""Take a few training steps of an experiment in a temporary folder, to time them."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import attrs
from accelerate import Accelerator

from hebm import pipeline
from hebm.building import accelerated
from hebm.estimates import STEPS, StepTimes
from hebm.pipeline import Assembly
from hebm.store.row_cache import Trial
from hebm.store.run_folder import RunFolder
from hebm.training.listeners import Listener, Listeners


def timed_steps(assembly: Assembly, accelerator: Accelerator, listener: Listener) -> StepTimes:
    """Take a few steps of every phase, and return their times. This trains the model and shortens the phases.

    Arguments:
        assembly: the experiment to try.
        accelerator: devices and precision; a single process.
        listener: follows the training.
    """
    run, batch_size, trial = assembly.experiment.run, assembly.experiment.data.batch_size, Trial()
    times = StepTimes(assembly.phases, trial, batch_size, run.log_every)
    settings = attrs.evolve(run, log_every=STEPS, sample_every=0, trackers=())  # type: ignore[misc]
    experiment = attrs.evolve(assembly.experiment, run=settings)  # type: ignore[misc]
    short, listeners = attrs.evolve(assembly, experiment=experiment), Listeners([times, listener])
    with tempfile.TemporaryDirectory() as scratch:
        pipeline.train(short, RunFolder(Path(scratch)), "check", accelerator, listeners, trial=trial)
    return times


def copied(assembly: Assembly) -> Assembly:
    """Return an untrained experiment with a copy of its model, which a trial may train."""
    experiment, model = assembly.experiment, copy.deepcopy(assembly.model)
    phases = accelerated(experiment.train, experiment.run).phases(model.backbone, model.prior)
    return attrs.evolve(assembly, model=model, phases=phases)
