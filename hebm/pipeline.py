"""One run from its configuration to its metrics: train, evaluate, picture, report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list

from hebm import registry
from hebm.config.experiment import Experiment
from hebm.config.recipe import fields_of, group_of
from hebm.config.settings import RunSettings
from hebm.config.writing import dumps
from hebm.data.batches import Batches
from hebm.data.images import Images
from hebm.data.recipe import spec
from hebm.data.splits import Splits
from hebm.errors import CheckpointError, ConfigError, HebmError
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.metrics_file import Results
from hebm.evaluate.result import evaluate
from hebm.evaluate.shares import Processes
from hebm.interfaces import ImageSpec, Request, TakesLabels
from hebm.model import DTYPES, Model, accelerated, build
from hebm.noise import Noise
from hebm.report.figures import collect_from
from hebm.report.page import write_report
from hebm.store.checkpoints import list_checkpoints, load_latest
from hebm.store.lock import RunLock
from hebm.store.provenance import describe_images, describe_run
from hebm.store.run_folder import RunFolder
from hebm.trained import TrainedModel
from hebm.training.job import TrainingJob
from hebm.training.listeners import Listener
from hebm.training.loop import Trainer
from hebm.training.phase_run import unfinished
from hebm.training.phases import Phase


@attrs.frozen(eq=False)
class Assembly:
    """Everything that a configuration names, built.

    Arguments:
        experiment: the configuration.
        images: splits "train" and "test".
        spec: what the backbone knows of them.
        model: backbone and prior, initial weights.
        phases: what will be trained.
    """

    experiment: Experiment
    images: Mapping[str, Images]
    spec: ImageSpec
    model: Model
    phases: tuple[Phase, ...]


def assemble(experiment: Experiment, device: torch.device | str = "cpu") -> Assembly:
    """Load the data, build the model, list the phases. Raises `ConfigError` or `DataError` for what does not fit."""
    data = experiment.data
    images = {split: data.load(split) for split in ("train", "test")}
    for metric in experiment.evaluate.metrics:
        metric.check(images, experiment.evaluate)
    image_spec = spec(images["train"], data)
    model = build(experiment, image_spec).to(device)
    if isinstance(model.prior, TakesLabels):
        model.prior.check(image_spec)
    phases = accelerated(experiment.train, experiment.run).phases(model.backbone, model.prior)
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise ConfigError(f"prior: phases need names of their own, these are {names}; a prior's stages share a name")
    return Assembly(experiment, images, image_spec, model, phases)


def make_accelerator(settings: RunSettings, folder: Path | None = None) -> Accelerator:
    """Devices, processes, precision and trackers of the `[run]` table. Raises `ConfigError` for what is not there."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    cpu = _on_cpu(settings.device)
    installed = [str(tracker) for tracker in get_available_trackers()]
    for tracker in settings.trackers:
        if tracker not in installed:
            known = ", ".join(installed) or "none"
            raise ConfigError(f"run.trackers: {tracker!r} is not installed (installed: {known}); pip install it")
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=settings.mixed_precision,
        # a plugin: it outranks the environment variable that `accelerate launch` sets
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=settings.gradient_accumulation),
        log_with=list(settings.trackers) or None,
        project_dir=folder,
    )
    if accelerator.num_processes != int(os.environ.get("WORLD_SIZE", "1")):
        raise ConfigError(f'run.device: {accelerator.device} is for one process; use "cpu", or one process')
    return accelerator


def _on_cpu(device: str) -> bool:
    """Whether a run computes on the CPU. Raises `ConfigError` for a device that is not here, or not often enough."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, True):
        raise ConfigError(f'run.device: {device!r} is not available here; use "auto" or "cpu"')
    if "ACCELERATE_USE_CPU" in os.environ and "MASTER_PORT" in os.environ and "RANK" not in os.environ:
        raise ConfigError(
            "accelerate launch started one process where several were asked for, as it does on CPUs; use "
            "`hebm run --processes N`, or `accelerate launch --multi_gpu --num_processes N`, which is for CPUs too"
        )
    if device == "cpu" or not any(available.values()):
        return True
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if available["cuda"] and processes > gpus:
        raise ConfigError(f'run.device: {processes} processes need as many GPUs, here are {gpus}; or use "cpu"')
    return False


def make_batches(assembly: Assembly, accelerator: Accelerator) -> Batches:
    """This process's training batches."""
    experiment = assembly.experiment
    rows = (accelerator.process_index, accelerator.num_processes)
    dtype = DTYPES[experiment.run.dtype]
    return Batches(assembly.images["train"], experiment.data, experiment.seed, True, rows, accelerator.device, dtype)


def make_evaluation(assembly: Assembly, accelerator: Accelerator) -> Evaluation:
    """Return what metrics see of a model, each process taking its share.

    Raises `ConfigError` if `evaluate.after` is not one of the prior's transitions.
    """
    experiment, settings, world = assembly.experiment, assembly.experiment.evaluate, accelerator.num_processes
    model = TrainedModel(
        assembly.model.backbone,
        assembly.model.prior,
        experiment.train,
        experiment.seed,
        Request(steps=settings.chain_steps, after=settings.after),
        settings.rows,
        settings.decode,
    )
    _ = model.way  # a wrong name is an error before anything is drawn
    processes = Processes(world, accelerator.process_index, accelerator.gather if world > 1 else None)
    return Evaluation(model, Splits(experiment.data, assembly.images), settings, processes)


def distributions(recipe: Any) -> set[str]:
    """The distributions whose components a recipe names, at any depth."""
    found: set[str] = set()
    group = group_of(type(recipe))
    if group:
        origin = registry.origin(group, registry.name_of(type(recipe)))
        found |= {origin.distribution} if origin.distribution else set()
    for field in fields_of(type(recipe)):
        value = getattr(recipe, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            found |= distributions(part) if attrs.has(type(part)) else set()
    return found


@contextmanager
def opened(folder: RunFolder, assembly: Assembly, accelerator: Accelerator, allow: bool) -> Iterator[tuple[str, bool]]:
    """Hold the run folder on the main process; every process gets (run id, whether the run is finished already).

    Raises on every process what the main process met.
    """
    lock = RunLock(folder.path)
    answer: list[Any] = ["", False, None]
    if accelerator.is_main_process:
        try:
            folder.create()
            lock.__enter__()
            answer = [*_identify(folder, assembly, allow), None]
        except HebmError as error:
            answer = ["", False, error]
    answer = broadcast_object_list(answer) if accelerator.num_processes > 1 else answer
    if answer[2] is not None:
        lock.__exit__(None, None, None)
        raise answer[2]
    try:
        yield str(answer[0]), bool(answer[1])
    finally:
        lock.__exit__(None, None, None)


def _identify(folder: RunFolder, assembly: Assembly, allow: bool) -> tuple[str, bool]:
    experiment = assembly.experiment
    text = dumps(experiment)
    whole = all(path.exists() for path in (folder.config, folder.metrics, folder.report))
    finished = whole and folder.config.read_text() == text
    fingerprints = {split: images.fingerprint() for split, images in assembly.images.items()}
    manifest = {
        **describe_run(distributions(experiment), fingerprints),
        "images": describe_images(assembly.spec),
    }
    run_id = folder.create_or_open(text, manifest, allow)["run_id"]
    if not finished:
        for path in (folder.metrics, folder.report):
            path.unlink(missing_ok=True)
    return run_id, finished


def train(
    assembly: Assembly,
    folder: RunFolder,
    run_id: str,
    accelerator: Accelerator,
    listener: Listener,
    stop: Callable[[], int] = lambda: 0,
) -> float:
    """Train to the end, from wherever the folder's checkpoints are; the seconds that it took in all.

    Raises `Stopped` if asked to stop.
    """
    experiment, model = assembly.experiment, assembly.model
    if not (folder.checkpoints.exists() and list_checkpoints(folder.checkpoints)):
        noise = Noise(experiment.seed, "prepare", device=accelerator.device, dtype=DTYPES[experiment.run.dtype])
        experiment.train.prepare(model.backbone, model.prior, assembly.images["train"], noise)
    batches = make_batches(assembly, accelerator)
    job = TrainingJob(model, assembly.phases, batches, folder, run_id, experiment.run, experiment.seed)
    trainer = Trainer(job, accelerator, listener, stop)
    trainer.train()
    return trainer.seconds


def measure(assembly: Assembly, folder: RunFolder, accelerator: Accelerator, training: float) -> Results:
    """Evaluate, write metrics.json and the report, and return the results.

    Arguments:
        assembly: trained.
        folder: of the run.
        accelerator: devices and processes.
        training: the seconds that training took, for the record.
    """
    evaluation = make_evaluation(assembly, accelerator)
    results = evaluate(evaluation).after_training(training)
    if accelerator.is_main_process:
        collect_from(evaluation, folder.samples)
        results.write(folder.metrics)
        write_report(folder)
    accelerator.wait_for_everyone()
    return results


def restore(assembly: Assembly, folder: RunFolder, run_id: str, warn: Callable[[str], None] = lambda _: None) -> float:
    """Give the assembled model a finished run's weights; the seconds that its training took.

    Raises `CheckpointError` if its training is not complete.
    """
    checkpoint = load_latest(folder.checkpoints, run_id, warn)
    last = assembly.phases[-1]
    if checkpoint is None or checkpoint.phase != last.name or unfinished(checkpoint, last):
        done = 0 if checkpoint is None else checkpoint.total_step
        steps = sum(phase.steps for phase in assembly.phases)
        raise CheckpointError(f"{folder.path} has trained {done} of {steps} steps; finish it with hebm run first")
    assembly.model.restore(checkpoint.tensors)
    return float(checkpoint.state["seconds"])
