"""Measure images that no run made, with metrics that need no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from hebm import pipeline
from hebm.config.overrides import Changes
from hebm.config.paths import expanded
from hebm.config.reference_file import Reference
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.data.files import left_out_lines
from hebm.data.sample_files import SampleFiles, read_samples
from hebm.data.splits import Splits
from hebm.data.stored_pixels import storing_pixels
from hebm.errors import ConfigError
from hebm.evaluation.feature_statistics import read_statistics, save_statistics
from hebm.evaluation.frechet import few_for, frechet_distance, moments, standard_error
from hebm.evaluation.given_images import GivenImages
from hebm.evaluation.kept_features import FeatureStore
from hebm.evaluation.kinds import SAMPLES
from hebm.evaluation.metric import Measurement
from hebm.evaluation.metrics_file import Results
from hebm.evaluation.result import evaluate as compute
from hebm.evaluation.settings import EvaluateSettings
from hebm.measurements import Measurements
from hebm.progress import listener_of
from hebm.training.listeners import Listener


def measure(
    images: Any,
    data: DatasetRecipe | str | Path,
    evaluate: EvaluateSettings | None = None,
    changes: Changes = (),
    stats: str | Path | None = None,
    save_stats: str | Path | None = None,
    progress: bool | Listener = True,
) -> Measurements:
    """Measure all given images against `evaluate.samples` images of a data set.

    If a metric fails, `results.failures` lists it with its reason, and the other metrics are measured.

    Arguments:
        images: a folder, a `.zip`, a `.tar`, or an `.npz` with uint8 pixels as `arr_0` or `images`; or a tensor or
            array `(N, C, H, W)`, uint8 or floats in [−1, 1].
        data: the data set, or the configuration of a run, of which `[data]`, `[evaluate]`, `seed` and `[run]` are used.
        evaluate: the settings of the measurement, in place of the file's. No metric may need a model. If neither names
            metrics, the default metrics that need no model are used.
        changes: changes of keys of the file, as for `Experiment.load`.
        stats: a file in pytorch-fid's format that replaces the reference images. Only the Fréchet distance in the first
            extractor is measured, which must be the network that made the file.
        save_stats: write the images' moments in the first extractor to this file, in pytorch-fid's format.
        progress: True shows the number of images done where that takes long; False shows nothing. Or pass your own
            listener.

    Raises `NeedsModelError` (a `ConfigError`) for a metric that needs a model, and `DataError` for images that do not
    fit the data.

    Example:
        print(hebm.measure("samples.npz", data="benchmarks/cifar-small.toml"))
    """
    reference, named = _reference(data, changes)
    if evaluate is not None:
        reference, named = attrs.evolve(reference, evaluate=evaluate), True  # type: ignore[misc]
    listener = listener_of(progress)
    try:
        evaluation = _evaluation(images, reference, listener)
        if stats is None:
            _check(evaluation, named, listener)
        else:
            evaluation.plan.extractor()
        if save_stats is not None:
            save_statistics(Path(save_stats), moments(evaluation.features(SAMPLES)))
        found = compute(evaluation) if stats is None else _against(evaluation, Path(stats))
    finally:
        listener.ended()
    return Measurements(str(images) if isinstance(images, (str, Path)) else "images", found)


def _reference(data: DatasetRecipe | str | Path, changes: Changes) -> tuple[Reference, bool]:
    """Return the reference, and whether it names metrics."""
    if isinstance(data, (str, Path)):
        return Reference.load(data, changes)
    if changes:
        raise ConfigError("changes: these change keys of a file, but `data` is a data set; change the data set itself")
    return Reference(data=data), False


def _evaluation(images: Any, reference: Reference, listener: Listener) -> GivenImages:
    """Load the data and the images, and report ignored files. All images are decoded, so that none fails later."""
    run = reference.run
    with storing_pixels(run):
        splits = Splits(reference.data, reference.data.splits())
    device = pipeline.make_accelerator(run).device
    samples = read_samples(images, splits["train"].shape)
    for line in left_out_lines(samples.files) if isinstance(samples, SampleFiles) else ():
        listener.said(line)
    store = FeatureStore(Path(expanded(run.cache_folder)) / "features", run.cache_limit)
    place = reference.seed, device, run.cache_folder, store, listener
    evaluation = GivenImages(samples, splits, reference.evaluate, *place)
    evaluation.read_all()
    return evaluation


def _check(evaluation: GivenImages, named: bool, listener: Listener) -> None:
    """Check the metrics.

    Arguments:
        evaluation: the evaluation of the images.
        named: True if the user chose the metrics. Otherwise default metrics that need a model are left out.
        listener: receives the notes of the metrics.
    """
    plan = evaluation.plan
    if not named:
        fitting = tuple(metric for metric in plan.settings.metrics if not plan.needs_model(metric))
        evaluation.settings = attrs.evolve(plan.settings, metrics=fitting)  # type: ignore[misc]
    for note in evaluation.plan.check():
        listener.said(note)


def _against(evaluation: GivenImages, stats: Path) -> Results:
    """Return the Fréchet distance to stored moments in the first extractor."""
    extractor, n = evaluation.extractor(), len(evaluation.given)
    width = extractor.widths["features"]
    reference, features = read_statistics(stats, width, extractor.name), evaluation.features(SAMPLES)
    found = Measurement(
        "frechet-distance",
        frechet_distance(moments(features), reference),
        "Fréchet distance",
        standard_error(features, reference),
        kind=SAMPLES,
        better="lower",
        conditions={"extractor": extractor.name, "reference": stats.name},
        note=few_for(n, extractor.name, width),
    )
    conditions = {"extractors": {extractor.name: extractor.describe()}, "seed": evaluation.model.seed}
    split = f"moments in {stats.name}"
    return Results((found,), {**evaluation.conditions(), **conditions, "n_reference": None, "split": split})
