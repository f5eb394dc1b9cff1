"""Build a model from an experiment, or from a file that `Model.save` wrote."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import torch

from hebm.compilation import compiled, with_samplers
from hebm.config.experiment import Experiment
from hebm.config.live_values import given_live
from hebm.config.recipes import fields_of
from hebm.config.settings import RunSettings
from hebm.cuda_graphs import Graphed
from hebm.interfaces import BackboneRecipe, ImageSpec
from hebm.memory import OutOfMemory, available_memory, explaining_memory, is_out_of_memory
from hebm.model import PARTS, Model
from hebm.model_images import Recipes
from hebm.noise import derive_seed
from hebm.store.model_file import read_model_file
from hebm.training.state import load_module

R = TypeVar("R")

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def build(experiment: Experiment, images: ImageSpec) -> Model:
    """Build backbone and prior, with initial weights derived from the experiment's seed.

    Arguments:
        experiment: the recipes to build, the seed and the floating-point type.
        images: shape and classes of the data.

    Raises `ConfigError` if components do not fit together, or if the weights need more memory than the machine has.
    """
    dtype = DTYPES[experiment.run.dtype]
    fix = f"make them smaller; the largest numbers are {', '.join(_largest_numbers(experiment))}"
    with explaining_memory("backbone and prior are built", fix):
        _require_memory(experiment, images, fix)
        with seeded(experiment.seed, "backbone"):
            backbone = experiment.backbone.build(images).to(dtype)
        with seeded(experiment.seed, "prior"):
            prior = accelerated(experiment.prior, experiment.run).build(backbone).to(dtype)
    return Model(backbone, prior, Recipes(experiment, images))


def _require_memory(experiment: Experiment, images: ImageSpec, fix: str) -> None:
    """Raise `OutOfMemory` if the weights alone take more memory than is available, without allocating them.

    A system that overcommits memory would kill the process without a message.
    """
    limit = available_memory()
    if limit is not None and (needed := _bytes_of_weights(experiment, images)) > limit:
        need = f"{needed / 2**30:,.1f} GiB" if needed < math.inf else "more bytes than can be counted"
        has = f"this machine has {limit / 2**30:,.1f} GiB available"
        raise OutOfMemory(f"the weights of backbone and prior take {need}, {has}; {fix}")


def _bytes_of_weights(experiment: Experiment, images: ImageSpec) -> float:
    """Return the bytes of all parameters; infinity if they overflow; 0 if meta tensors cannot count them."""
    try:
        with torch.random.fork_rng(), torch.device("meta"):
            backbone = experiment.backbone.build(images)
            prior = experiment.prior.build(backbone)
    except (NotImplementedError, RuntimeError) as error:
        return math.inf if is_out_of_memory(error) else 0  # torch also refuses constructors that compute with values
    width = DTYPES[experiment.run.dtype].itemsize
    return sum(parameter.numel() * width for part in (backbone, prior) for parameter in part.parameters())


def _largest_numbers(experiment: Experiment, count: int = 3) -> list[str]:
    """Return the keys of backbone and prior with the largest integer values, as "key = value"."""
    found = [*_numbers(experiment.backbone, "backbone"), *_numbers(experiment.prior, "prior")]
    return [f"{key} = {value}" for key, value in sorted(found, key=lambda pair: -pair[1])[:count]]


def _numbers(recipe: Any, key: str) -> Iterator[tuple[str, int]]:
    """Yield the key and value of each integer in a recipe and its nested recipes."""
    for field in fields_of(type(recipe)):
        value, inner = getattr(recipe, field.name), f"{key}.{field.name}"
        for item in value if isinstance(value, tuple) else (value,):
            if attrs.has(type(item)):
                yield from _numbers(item, inner)
            elif isinstance(item, int) and not isinstance(item, bool):
                yield inner, item


def load(path: str | Path, *, backbone: BackboneRecipe | None = None) -> Model:
    """Load a model from the file that `Model.save` wrote, on the CPU.

    Arguments:
        path: the file.
        backbone: the backbone of a model whose backbone was given in Python, such as `hebm.AutoEncoder(…)`.

    Raises:
        CheckpointError: if it is not such a file, is damaged, or its weights do not fit the model that is built now.
        ConfigError, PluginError: if a component is not installed, or no longer has the options in the file.

    Example:
        model = hebm.load("demo.hebm")
    """
    file = read_model_file(Path(path))
    given = {} if backbone is None else {"backbone": backbone}
    model = build(given_live(Experiment.from_toml(file.experiment, str(path)), given), file.images)
    for name in PARTS:
        prefix = f"{name}."
        weights = {key.removeprefix(prefix): tensor for key, tensor in file.weights.items() if key.startswith(prefix)}
        load_module(getattr(model, name), weights, f"the {name} of {path}")
    return model


def accelerated(recipe: R, settings: RunSettings) -> R:
    """Return the recipe of a prior or a scheme with its samplers accelerated by `run.compile` and `run.cuda_graphs`."""
    if settings.compile:
        recipe = compiled(recipe)
    return with_samplers(recipe, Graphed) if settings.cuda_graphs else recipe


@contextmanager
def seeded(seed: int, table: str) -> Iterator[None]:
    """Seed the global generator from (seed, table) inside the context, and restore it afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "init", table) >> 1)
        yield
