"""The splits of a data set, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch

from hebm.data.batches import Batches
from hebm.data.dataset_recipe import VALIDATION, DatasetRecipe
from hebm.data.images import Images


@attrs.frozen(eq=False)
class Splits:
    """The images of splits "train" and "test", and of "validation" if a part of "train" is held out.

    Arguments:
        recipe: the data set's recipe, which sets how batches are made.
        images: the images by split.
    """

    recipe: DatasetRecipe
    images: Mapping[str, Images]

    def __getitem__(self, split: str) -> Images:
        """Return the images of a split."""
        return self.images[split]

    def held_out(self, seed: int, device: torch.device, dtype: torch.dtype) -> Batches | None:
        """Return batches of the held-out part of the training split; None if nothing is held out."""
        images = self.images.get(VALIDATION)
        return None if images is None else self.batches(images, seed, device, dtype)

    def batches(self, images: Images, seed: int, device: torch.device, dtype: torch.dtype) -> Batches:
        """Return batches of images for use outside of training.

        Arguments:
            images: images of the model's shape, usually one of the splits.
            seed: seed of the binarisation.
            device: device of the batches.
            dtype: floating-point type of the batches.
        """
        return Batches(images, self.recipe, seed, training=False, device=device, dtype=dtype)


def described(images: Mapping[str, Images]) -> str:
    """Describe the number of images and the labels of each split, so that users can check how their data was read."""
    return ", ".join(f"{split}: {len(some):,} images{_labels_of(some)}" for split, some in images.items())


def _labels_of(images: Images) -> str:
    if images.labels is None:
        return ""
    if images.attributes:
        return f" with {len(images.attributes)} attributes"
    return f" in {len(images.classes)} classes"
