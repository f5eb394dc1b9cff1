"""Convert data sets of the published code to the table [data], and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from hebm.config.experiment import Experiment
from hebm.config.writing import to_table
from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec

PAD, PADDED = 2, 32
"""Black pixels that the published code adds to each side of grey images, and the resulting side in pixels."""

_KNOWN = "mnist, omniglot, cifar10, celeba_N, imagenet_N, ffhq, lsun_bedroom_N, lsun_church_N, lsun_tower_N"

_SCENES = {"bedroom": "bedroom", "church": "church_outdoor", "tower": "tower"}


def table_of(
    args: Mapping[str, Any], weights: Mapping[str, Any] = MappingProxyType({})
) -> tuple[dict[str, Any], ImageSpec]:
    """Return the table [data] and the shape of the images for published arguments.

    Arguments:
        args: the published arguments.
        weights: the weights by published name. Their shapes give the shape of the images of an unknown data set.

    Raises `ConfigError` for an unknown data set if the shape cannot be determined from the weights.
    """
    name = str(args["dataset"])
    batch = args["batch_size"] * args["num_process_per_node"] * args["num_proc_node"]
    if name in ("mnist", "omniglot"):
        return {"type": name, "batch_size": batch, "binarize": "both"}, ImageSpec(1, 28, 28, binary=True)
    colour = {"batch_size": batch, "flip": True}
    if name == "cifar10":
        return {"type": "cifar10", **colour}, ImageSpec(3, 32, 32)
    known = _family(name)
    if known is None:
        images = _shape_in(weights, args)
        binary = {"binarize": "both"} if images.binary else {}
        own = {"type": "image-folder", "root": f"data/{_as_folder(name)}", "batch_size": batch}
        return {**own, "size": images.height, "channels": images.channels, **binary}, images
    family, side = known
    images = ImageSpec(3, side, side)
    if name == "celeba_64":
        return {"type": "celeba", "size": side, **colour}, images
    if family in _SCENES:
        return {"type": "lsun", "category": _SCENES[family], "size": side, **colour}, images
    return {"type": "image-folder", "root": f"data/{name}", "size": side, "channels": 3, **colour}, images


def is_known(name: str) -> bool:
    """Return whether the published code has a data set of this name."""
    return name in ("mnist", "omniglot", "cifar10") or _family(name) is not None


def _family(name: str) -> tuple[str, int] | None:
    """Return the family of a published colour data set and its side in pixels; None for an unknown data set."""
    if name == "ffhq":
        return name, 256
    match = re.fullmatch(r"(?:(celeba|imagenet)|lsun_(bedroom|church|tower))_(\d{1,4})", name)
    return (match[1] or match[2], int(match[3])) if match else None


def _shape_in(weights: Mapping[str, Any], args: Mapping[str, Any]) -> ImageSpec:
    """Infer the shape of the images from the shapes of the weights.

    The first convolution gives the channels. The side follows from the top feature: every block, and every scale but
    the first, halves the resolution. Grey images with one output per pixel are binary. If their side is 32, they are
    28 × 28 images that were padded by 2 pixels.
    """
    stem, top = _shape(weights.get("stem.weight")), _shape(weights.get("prior_ftr0"))
    head = _shape(weights.get("image_conditional.1.weight"))
    if len(stem) != 4 or len(top) != 3 or len(head) != 4:
        raise ConfigError(
            f"dataset = {args['dataset']!r} is unknown; allowed are {_KNOWN} (N: pixels a side). "
            "The shape of other images is inferred from stem.weight, prior_ftr0 and image_conditional.1.weight, but "
            "the file lacks them"
        )
    halvings = args["num_latent_scales"] - 1 + args["num_preprocess_blocks"]
    height, width = (side << halvings for side in top[1:])
    if height != width or stem[1] not in (1, 3):
        raise ConfigError(
            f"dataset = {args['dataset']!r}: the weights are for images of {stem[1]} channels and {height}x{width} "
            "pixels, but an image-folder supports only square images of 1 or 3 channels"
        )
    if stem[1] == 1 and head[0] == 1:
        side = height - 2 * PAD if height == PADDED else height
        return ImageSpec(1, side, side, binary=True)
    return ImageSpec(stem[1], height, width)


def _shape(weight: Any) -> tuple[int, ...]:
    return tuple(weight.shape) if isinstance(weight, Tensor) else ()


def _as_folder(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)[:100]


def name_of(experiment: Experiment, pad: int, images: ImageSpec) -> str:
    """Return the published name of the run's data set, or of another one with images of the same shape.

    Arguments:
        experiment: the experiment of the run.
        pad: black pixels that the backbone adds on each side.
        images: the images of the run.

    Raises `CheckpointError` for a shape that the published code does not support.
    """
    if images.channels == 1:
        if (images.height, images.width, pad) != (28, 28, 2):
            raise CheckpointError(
                "the published code supports grey images only of 28x28 pixels and with backbone.pad = 2; these have "
                f"{images.height}x{images.width} and pad = {pad}"
            )
        return "omniglot" if to_table(experiment.data)["type"] == "omniglot" else "mnist"
    if images.height != images.width or pad:
        raise CheckpointError(
            "the published code supports colour images only if they are square and backbone.pad = 0; these have "
            f"{images.height}x{images.width} pixels and pad = {pad}"
        )
    data, side = to_table(experiment.data), images.height
    if data["type"] in ("cifar10", "celeba"):
        return "cifar10" if data["type"] == "cifar10" else f"celeba_{side}"
    scene = next((short for short, long in _SCENES.items() if data.get("category") == long), None)
    return f"lsun_{scene}_{side}" if scene else f"imagenet_{side}"
