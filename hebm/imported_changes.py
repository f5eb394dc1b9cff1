"""Apply a user's changes to the configuration of an imported run."""

from __future__ import annotations

import attrs

from hebm.config.experiment import Experiment
from hebm.config.overrides import Changes, Override, parse
from hebm.data.dataset_recipe import DatasetRecipe, spec
from hebm.errors import ConfigError, DataError
from hebm.interfaces import ImageSpec

FIXED = ("name", "prior", "train")
"""Tables that the imported file determines."""


def changed(experiment: Experiment, images: ImageSpec, changes: Changes) -> tuple[Experiment, list[str]]:
    """Return the experiment with changed keys, and notes.

    Arguments:
        experiment: the experiment read from the file.
        images: shape of the images that the weights expect.
        changes: keys and values.

    Raises `ConfigError` for a key that the file determines, and if the images of `data` do not have the shape that the
    weights expect. Images that cannot be read here only give a note.
    """
    overrides = parse(changes)
    for override in overrides:
        if override.path[0] in FIXED:
            raise ConfigError(
                f"{override.source}: the imported file determines this key; only keys of data, backbone, evaluate and "
                "run can be set"
            )
    if not overrides:
        return experiment, []
    found = Experiment.from_toml(experiment.to_toml(), "the imported configuration", overrides)
    return found, _compared(found.data, images) if any(map(_is_of_data, overrides)) else []


def _is_of_data(override: Override) -> bool:
    return override.path[0] == "data"


def _compared(data: DatasetRecipe, images: ImageSpec) -> list[str]:
    """Return a note if the images cannot be read. Raises `ConfigError` if they have another shape."""
    few = attrs.evolve(data, limit=1) if hasattr(data, "limit") else data  # type: ignore[misc]
    try:
        found = spec(few.load("train"), few)
    except DataError as error:
        return [f"the images of data cannot be read here, so their shape was not compared with the weights: {error}"]
    if found.shape != images.shape:
        wanted, seen = ("x".join(map(str, shape)) for shape in (images.shape, found.shape))
        raise ConfigError(
            f"data: the images are {seen}, but the weights expect {wanted} (channels, height, width); set data.size "
            "and data.channels"
        )
    return []
