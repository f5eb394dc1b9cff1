"""The stages of a run: assemble, train, evaluate and report."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration

from hebm.batch_sizes import chosen_rows
from hebm.building import DTYPES, accelerated, build
from hebm.config.components import distributions
from hebm.config.experiment import Experiment
from hebm.config.paths import Places, expanded, located, missing
from hebm.config.paths import described as describe_paths
from hebm.config.settings import RunSettings
from hebm.config.writing import dumps
from hebm.data.batches import Batches
from hebm.data.dataset_recipe import spec
from hebm.data.images import Images
from hebm.data.splits import Splits
from hebm.data.stored_pixels import storing_pixels
from hebm.draws_cache import draws_cache
from hebm.errors import CheckpointError, ConfigError, DataError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.failures_log import log_failures, retry
from hebm.evaluation.image_identity import ImageSources
from hebm.evaluation.kept_features import FeatureStore
from hebm.evaluation.metrics_file import Results
from hebm.evaluation.plan import EvaluationPlan
from hebm.evaluation.result import evaluate
from hebm.evaluation.shares import Processes
from hebm.interfaces import ImageSpec, TakesLabels
from hebm.model import Model
from hebm.noise import Noise, whole_blocks
from hebm.report.plot_data import read_plots
from hebm.report.plots import collect_from
from hebm.report.previews import Previews
from hebm.store.checkpoints import list_checkpoints
from hebm.store.durable import reporting
from hebm.store.provenance import describe_images, describe_run
from hebm.store.row_cache import Trial
from hebm.store.run_folder import RunFolder
from hebm.threads import use_threads
from hebm.trained import TrainedModel
from hebm.training.job import TrainingJob
from hebm.training.listeners import Listener, Listeners
from hebm.training.loop import Trainer
from hebm.training.phases import Phase
from hebm.training.reached import planned
from hebm.training.space import checkpoint_bytes, require_space
from hebm.training.trackers import FOLDER, Trackers, require_installed

logger = logging.getLogger(__name__)


@attrs.frozen(eq=False, slots=False)
class Assembly:
    """Everything built from a configuration.

    Arguments:
        experiment: the configuration, with paths where the files were found.
        written: the configuration with its paths as written.
        places: what the paths meant when the run started (`hebm.config.paths`); empty before the start.
        images: the splits "train" and "test", and "validation" if a part of "train" is held out.
        spec: properties of the images for the backbone.
        model: backbone and prior with initial weights.
        phases: the phases of training.
        notes: notes of the metrics before training.
    """

    experiment: Experiment
    written: Experiment
    places: Places
    images: Mapping[str, Images]
    spec: ImageSpec
    model: Model
    phases: tuple[Phase, ...]
    notes: tuple[str, ...] = ()

    @property
    def plan(self) -> EvaluationPlan:
        """The information that metrics may use before training."""
        settings = self.experiment.evaluate.suited_to(self.images["train"])
        return EvaluationPlan(self.images, self.spec, settings, self.model.backbone, self.model.prior)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest of a run that starts now. Computing it may read all images."""
        fingerprints = {split: images.fingerprint() for split, images in self.images.items()}
        return {
            **describe_run(distributions(self.experiment), fingerprints),
            "images": describe_images(self.spec),
            "paths": describe_paths(self.written, self.experiment),
            "phases": planned(self.phases),
        }

    @property
    def checkpoint_bytes(self) -> int:
        """The largest number of bytes of tensors in a checkpoint."""
        return checkpoint_bytes((self.model.backbone, self.model.prior), self.phases)


def assemble(
    experiment: Experiment,
    device: torch.device | str = "cpu",
    places: Places | None = None,
    measured: bool = True,
) -> Assembly:
    """Load the data, build the model and list the phases.

    Arguments:
        experiment: the configuration.
        device: the model's device.
        places: what the configuration's paths meant when the run started; None for a new run.
        measured: check the metrics, since they will be computed.

    Raises `ConfigError` or `DataError` if parts do not fit together, and `HebmError` if weights of an extractor are
    missing.
    """
    _check_cache(experiment.run)
    written, places = experiment, places or {}
    experiment = located(written, places)
    data = experiment.data
    with _saying_where(experiment, places), storing_pixels(experiment.run):
        images = data.splits()
    image_spec = spec(images["train"], data)
    model = build(experiment, image_spec).to(device)
    if isinstance(model.prior, TakesLabels):
        model.prior.check(image_spec)
    phases = accelerated(experiment.train, experiment.run).phases(model.backbone, model.prior)
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"prior: names of phases must be unique, but they are {names}; give each stage of the prior its own name"
        )
    assembly = Assembly(experiment, written, places, images, image_spec, model, phases)
    plan = assembly.plan
    plan.check_transitions()
    return attrs.evolve(assembly, notes=plan.check()) if measured else assembly


def _check_cache(settings: RunSettings) -> None:
    """Raise `ConfigError` for an impossible cache folder: its name is too long, or access is denied."""
    try:
        Path(settings.cache_folder).expanduser().exists()
    except (OSError, RuntimeError) as error:  # `expanduser` raises it for an unknown user
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"run.cache_folder cannot be {settings.cache_folder!r} ({why}); set another folder"
        ) from error


@contextmanager
def _saying_where(experiment: Experiment, places: Places) -> Iterator[None]:
    """Add to errors which files and folders of the configuration do not exist, and where they were before."""
    try:
        yield
    except (DataError, CheckpointError) as error:
        raise type(error)(f"{error}{missing(experiment, places)}") from error


def make_accelerator(settings: RunSettings, folder: Path | None = None) -> Accelerator:
    """Set up devices, processes, precision and trackers of `[run]`. Raises `ConfigError` for unavailable ones."""
    use_threads(settings.threads)
    cpu = _on_cpu(settings.device)
    _forget_other_settings(cpu, settings.mixed_precision)
    installed = [str(tracker) for tracker in get_available_trackers()]
    require_installed(settings.trackers, installed)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=settings.mixed_precision,
        # as a plugin, it overrides the environment variable that `accelerate launch` sets
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=settings.gradient_accumulation),
        log_with=list(settings.trackers) if settings.trackers and folder is not None else None,
        project_config=None if folder is None else ProjectConfiguration(str(folder), str(folder / FOLDER)),
    )
    if accelerator.num_processes != int(os.environ.get("WORLD_SIZE", "1")):
        raise ConfigError(
            f'run.device: {accelerator.device} supports a single process; use "cpu", or start one process'
        )
    logger.debug(
        "device %s, %d processes, mixed precision %s",
        accelerator.device,
        accelerator.num_processes,
        settings.mixed_precision,
    )
    return accelerator


def _forget_other_settings(cpu: bool, mixed_precision: str) -> None:
    """Reset accelerate if this process used another device or precision before, since it keeps the first one.

    With several processes, device and precision cannot change.
    """
    before: dict[str, Any] = AcceleratorState._shared_state
    if not before or "RANK" in os.environ:
        return
    other_device = cpu != (before["device"].type == "cpu")
    if other_device or before["_mixed_precision"] != mixed_precision:
        AcceleratorState._reset_state(reset_partial_state=True)


def _on_cpu(device: str) -> bool:
    """Return whether a run computes on the CPU. Raises `ConfigError` for unavailable devices or too few GPUs."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, True):
        raise ConfigError(f'run.device: {device!r} is not available here; use "auto" or "cpu"')
    if "ACCELERATE_USE_CPU" in os.environ and "MASTER_PORT" in os.environ and "RANK" not in os.environ:
        raise ConfigError(
            "accelerate launch started one process although several were requested, as it does on CPUs; use "
            "`hebm run --processes N`, or `accelerate launch --multi_gpu --num_processes N`, which also works on CPUs"
        )
    if device == "cpu" or not any(available.values()):
        return True
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if available["cuda"] and processes > gpus:
        raise ConfigError(
            f'run.device: {processes} processes need {processes} GPUs, {gpus} are available; start fewer or use "cpu"'
        )
    return False


def make_batches(assembly: Assembly, accelerator: Accelerator) -> Batches:
    """Return this process's training batches."""
    experiment = assembly.experiment
    rows = (accelerator.process_index, accelerator.num_processes)
    dtype = DTYPES[experiment.run.dtype]
    return Batches(assembly.images["train"], experiment.data, experiment.seed, True, rows, accelerator.device, dtype)


def make_processes(accelerator: Accelerator) -> Processes:
    """Return this process among all processes, which share images."""
    world = accelerator.num_processes
    return Processes(world, accelerator.process_index, accelerator.gather if world > 1 else None)


def make_evaluation(assembly: Assembly, accelerator: Accelerator, listener: Listener | None = None) -> Evaluation:
    """Return the evaluation of a model, shared between processes. Features are stored in the cache folder.

    Arguments:
        assembly: the assembly with trained weights.
        accelerator: devices and processes.
        listener: receives the number of images done from the main process.

    Raises `ConfigError` for settings of draws that the prior does not support; see `EvaluateSettings.request`.
    """
    experiment, settings = assembly.experiment, assembly.experiment.evaluate
    model = TrainedModel(
        assembly.model.backbone,
        assembly.model.prior,
        experiment.train,
        experiment.seed,
        settings.request,
        decoding=settings.decode,
        kept=assembly.model.kept,
    )
    model.check_request()
    processes = make_processes(accelerator)
    rows = chosen_rows(model) if settings.batch_size is None else whole_blocks(settings.batch_size)
    model = attrs.evolve(model, rows=processes.agreed(rows, accelerator.device))
    splits, cache = Splits(experiment.data, assembly.images), experiment.run.cache_folder
    store = FeatureStore(Path(expanded(cache)) / "features", experiment.run.cache_limit)
    sources, follows = ImageSources.of(assembly.written), listener if accelerator.is_main_process else None
    return Evaluation(model, splits, settings, processes, cache, store, sources, follows)


def train(
    assembly: Assembly,
    folder: RunFolder,
    run_id: str,
    accelerator: Accelerator,
    listener: Listener,
    stop: Callable[[], int] = lambda: 0,
    trial: Trial | None = None,
) -> float:
    """Train from the newest checkpoint to the end; return the total seconds. A trial writes only to the folder.

    Raises `Stopped` if asked to stop.
    """
    experiment, model = assembly.experiment, assembly.model
    device, dtype = accelerator.device, DTYPES[experiment.run.dtype]
    with reporting(f"read {folder.checkpoints}"):
        saved = len(list_checkpoints(folder.checkpoints))
    require_space(folder.path, assembly.checkpoint_bytes, max(1, experiment.run.keep + 1 - saved))
    if not saved:
        noise = Noise(experiment.seed, "prepare", device=device, dtype=dtype)
        with _saying_where(experiment, assembly.places):
            experiment.train.prepare(model.backbone, model.prior, assembly.images["train"], noise)
    batches = make_batches(assembly, accelerator)
    cache = draws_cache(experiment, assembly.manifest, accelerator.device, trial)
    validation = Splits(experiment.data, assembly.images).held_out(experiment.seed, device, dtype)
    job = TrainingJob(
        model, assembly.phases, batches, folder, run_id, experiment.run, experiment.seed, cache, validation
    )
    every: list[Listener] = [listener, Previews(folder.samples, listener.said)]
    every += [Trackers(accelerator, experiment, folder, run_id)] if experiment.run.trackers else []
    trainer = Trainer(job, accelerator, Listeners(every), stop)
    try:
        trainer.train()
    finally:
        Listeners(every).ended()
    return trainer.seconds


def measure(
    assembly: Assembly,
    folder: RunFolder,
    accelerator: Accelerator,
    training: float,
    unfinished: str = "",
    name: str | None = None,
    listener: Listener | None = None,
) -> Results:
    """Evaluate the model, write metrics.json and the report, and return the results, including failed metrics.

    It writes nothing before all measurements are done. It then also stores the configuration that was measured.

    Arguments:
        assembly: the assembly with trained weights.
        folder: the run folder.
        accelerator: devices and processes.
        training: the seconds of training, which are recorded.
        unfinished: how far training got, if it is not finished.
        name: the evaluation's name. With a name, the results are stored next to metrics.json, without pictures.
        listener: receives the number of images done from the main process.

    Raises `HebmError` if all metrics fail and the run has earlier measurements, which are kept.
    """
    listener = listener or Listener()
    evaluation = make_evaluation(assembly, accelerator, listener)
    try:
        found = evaluate(evaluation)
    finally:
        listener.ended()
    results = found.after_training(training, unfinished).tried_again_by(retry(folder, unfinished, name))
    if accelerator.is_main_process:
        log_failures(folder, results, name)
        if name is None:
            collect_from(evaluation, folder.samples)
        folder.record(dumps(assembly.written), assembly.manifest, results.to_json(), name)
        from hebm.report.page import write_report  # imported here: plotting takes a second to import

        write_report(folder)
    if name is None and assembly.experiment.run.trackers:
        _tell_trackers(assembly, folder, accelerator, results)
    accelerator.wait_for_everyone()
    return results


def _tell_trackers(assembly: Assembly, folder: RunFolder, accelerator: Accelerator, results: Results) -> None:
    """Pass measurements and grids to the run's trackers."""
    trackers = Trackers(accelerator, assembly.experiment, folder, folder.read().manifest["run_id"])
    named = {"-".join(str(part) for part in found.key if part): found.value for found in results.measurements}
    plots = read_plots(folder.samples)
    grids = {} if plots is None else {kind: folder.samples / file for kind, file in plots.images.items() if file}
    trackers.measured({name: value for name, value in named.items() if math.isfinite(value)}, grids)
    trackers.ended()
