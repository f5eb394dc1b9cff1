"""Pass a user's images to a model in batches, prepared as the model's recipes say."""

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
    """The recipes that a model was built from.

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
    """Return an iterator over `function(batch, noise)` for all batches of the given images.

    Arguments:
        images: `(N, C, H, W)`, uint8 or floats in [−1, 1], or a data set.
        shape: the required shape `(C, H, W)`; None if it is not known.
        data: prepares images as outside of training; None uses them unchanged.
        model: gives noise and batch size, `model.rows`.
        function: the function of a batch and its noise.
        kind: the kind of noise.
        first: index of the first image.

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
        with evaluating(model.backbone, model.prior):  # not around the yield, which would change modes for the caller
            found = function(_batch(images, few, data, model), model.noise(kind, few.start))
        yield found


def _batch(images: Images, few: slice, data: DatasetRecipe | None, model: TrainedModel) -> Batch:
    """Return a batch of images, prepared as outside of training."""
    if data is None:
        index = torch.arange(few.start, few.stop)
        x = images.read(index).to(model.device, model.dtype)
        return Batch(x, x, None, index.to(model.device))
    batches = Batches(images, data, model.seed, training=False, device=model.device, dtype=model.dtype)
    return batches.in_order(few.start, few.stop - few.start)
