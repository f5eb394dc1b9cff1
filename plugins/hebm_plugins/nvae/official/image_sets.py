"""The published code's data sets ↔ the table [data]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hebm.config.experiment import Experiment
from hebm.config.writing import to_table
from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec

_SCENES = {"bedroom": "bedroom", "church": "church_outdoor", "tower": "tower"}


def table_of(args: Mapping[str, Any]) -> tuple[dict[str, Any], ImageSpec]:
    """Return the table [data] of the published arguments, and what a backbone must know of the images.

    Raises `ConfigError` for an unknown data set.
    """
    name = str(args["dataset"])
    batch = args["batch_size"] * args["num_process_per_node"] * args["num_proc_node"]
    if name in ("mnist", "omniglot"):
        return {"type": name, "batch_size": batch, "binarize": "both"}, ImageSpec(1, 28, 28, binary=True)
    colour = {"batch_size": batch, "flip": True}
    if name == "cifar10":
        return {"type": "cifar10", **colour}, ImageSpec(3, 32, 32)
    family, side = _family(name)
    images = ImageSpec(3, side, side)
    if name == "celeba_64":
        return {"type": "celeba", "size": side, **colour}, images
    if family in _SCENES:
        return {"type": "lsun", "category": _SCENES[family], "size": side, **colour}, images
    return {"type": "image-folder", "root": f"data/{name}", "size": side, "channels": 3, **colour}, images


def _family(name: str) -> tuple[str, int]:
    """Return the subject of the colour images, and their side in pixels."""
    if name == "ffhq":
        return name, 256
    match = re.fullmatch(r"(?:(celeba|imagenet)|lsun_(bedroom|church|tower))_(\d{1,4})", name)
    if not match:
        known = "mnist, omniglot, cifar10, celeba_N, imagenet_N, ffhq, lsun_bedroom_N, lsun_church_N, lsun_tower_N"
        raise ConfigError(f"dataset = {name!r} is unknown; there are {known} (N: pixels a side)")
    return match[1] or match[2], int(match[3])


def name_of(experiment: Experiment, pad: int, images: ImageSpec) -> str:
    """Return the published name of images of the run's shape: of its own data set if that has one.

    Arguments:
        experiment: the run.
        pad: black pixels that its backbone adds on each side.
        images: of the run.

    Raises `CheckpointError` for a shape that the published code does not know.
    """
    if images.channels == 1:
        if (images.height, images.width, pad) != (28, 28, 2):
            raise CheckpointError("the published code knows grey images of 28x28 pixels with backbone.pad = 2 alone")
        return "omniglot" if to_table(experiment.data)["type"] == "omniglot" else "mnist"
    if images.height != images.width or pad:
        raise CheckpointError("the published code knows square colour images with backbone.pad = 0 alone")
    data, side = to_table(experiment.data), images.height
    if data["type"] in ("cifar10", "celeba"):
        return "cifar10" if data["type"] == "cifar10" else f"celeba_{side}"
    scene = next((short for short, long in _SCENES.items() if data.get("category") == long), None)
    return f"lsun_{scene}_{side}" if scene else f"imagenet_{side}"
