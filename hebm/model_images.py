"""Images that a user gives to a model, shown to it batch by batch; and the recipes that say how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import attrs
import torch

from hebm.config.experiment import Experiment
from hebm.data.batches import Batches
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.data.given import given_images
from hebm.data.images import Images
from hebm.interfaces import Batch, ImageSpec
from hebm.noise import Noise
from hebm.trained import TrainedModel, evaluating

T = TypeVar("T")


@attrs.frozen
class Recipes:
    """What a model was built from.

    Arguments:
        experiment: the recipes of backbone, prior, training scheme and data.
        images: shape and classes of the images.
    """

    experiment: Experiment
    images: ImageSpec


def each_batch(
    images: Any,
    shape: tuple[int, int, int] | None,
    data: DatasetRecipe | None,
    model: TrainedModel,
    function: Callable[[Batch, Noise], T],
    kind: str,
    first: int = 0,
) -> Iterator[T]:
    """Return an iterator over a function of each batch of given images and of the noise of that kind.

    Arguments:
        images: `(N, C, H, W)`, uint8 or floats in [−1, 1], or a data set.
        shape: `(C, H, W)` that they must have; None if it is not known.
        data: prepares images outside of training; None uses them unchanged.
        model: shows them `model.rows` at a time.
        function: of a batch and its noise.
        kind: of the noise.
        first: number of the image to start at.

    Raises `DataError` for images that do not fit.
    """
    given = images if isinstance(images, Images) else given_images(images, shape)
    spans = [] if 0 < first == len(given) else [*model.batches(len(given) - first)]
    return _each(given, [slice(first + few.start, first + few.stop) for few in spans], data, model, function, kind)


def _each(
    images: Images,
    spans: Sequence[slice],
    data: DatasetRecipe | None,
    model: TrainedModel,
    function: Callable[[Batch, Noise], T],
    kind: str,
) -> Iterator[T]:
    for few in spans:
        with evaluating(model.backbone, model.prior):  # not around a yield: the caller's modes are not ours
            found = function(_batch(images, few, data, model), model.noise(kind, few.start))
        yield found


def _batch(images: Images, few: slice, data: DatasetRecipe | None, model: TrainedModel) -> Batch:
    """Return images as the model is shown them outside of training."""
    if data is None:
        index = torch.arange(few.start, few.stop)
        x = images.read(index).to(model.device, model.dtype)
        return Batch(x, x, None, index.to(model.device))
    batches = Batches(images, data, model.seed, training=False, device=model.device, dtype=model.dtype)
    return batches.in_order(few.start, few.stop - few.start)
