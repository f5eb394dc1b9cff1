"""Build a model from an experiment, or from a file that `Model.save` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from hebm.compilation import compiled, with_samplers
from hebm.config.experiment import Experiment
from hebm.config.settings import RunSettings
from hebm.cuda_graphs import Graphed
from hebm.interfaces import ImageSpec
from hebm.model import PARTS, Model
from hebm.model_images import Recipes
from hebm.noise import derive_seed
from hebm.store.model_file import read_model_file
from hebm.training.state import load_module

R = TypeVar("R")

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def build(experiment: Experiment, images: ImageSpec) -> Model:
    """Build backbone and prior with initial weights derived from the experiment's seed.

    Arguments:
        experiment: says what to build.
        images: shape and classes of the data.

    Raises `ConfigError` for what does not fit.
    """
    dtype = DTYPES[experiment.run.dtype]
    with seeded(experiment.seed, "backbone"):
        backbone = experiment.backbone.build(images).to(dtype)
    with seeded(experiment.seed, "prior"):
        prior = accelerated(experiment.prior, experiment.run).build(backbone).to(dtype)
    return Model(backbone, prior, Recipes(experiment, images))


def load(path: str | Path) -> Model:
    """Load a model from the file that `Model.save` wrote, on the CPU.

    Raises:
        CheckpointError: if it is not such a file, is damaged, or its weights do not fit what is built now.
        ConfigError, PluginError: if a component that it names is not installed, or does not have the options it had.

    Example:
        model = hebm.load("demo.hebm")
    """
    file = read_model_file(Path(path))
    model = build(Experiment.from_toml(file.experiment, str(path)), file.images)
    for name in PARTS:
        prefix = f"{name}."
        weights = {key.removeprefix(prefix): tensor for key, tensor in file.weights.items() if key.startswith(prefix)}
        load_module(getattr(model, name), weights, f"the {name} of {path}")
    return model


def accelerated(recipe: R, settings: RunSettings) -> R:
    """Return the recipe of a prior or a scheme with its samplers as `run.compile` and `run.cuda_graphs` ask for."""
    if settings.compile:
        recipe = compiled(recipe)
    return with_samplers(recipe, Graphed) if settings.cuda_graphs else recipe


@contextmanager
def seeded(seed: int, table: str) -> Iterator[None]:
    """Inside, the global generator is seeded from (seed, table), for module constructors; afterwards as before."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "init", table) >> 1)
        yield
