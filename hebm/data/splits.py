"""The splits of a data set, and how batches are made from them."""

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
        recipe: the data set's, for how batches are made.
        images: by split.
    """

    recipe: DatasetRecipe
    images: Mapping[str, Images]

    def __getitem__(self, split: str) -> Images:
        """Return the images of a split."""
        return self.images[split]

    def held_out(self, seed: int, device: torch.device, dtype: torch.dtype) -> Batches | None:
        """Return the held-out part of the training split as `batches` does; None if there is none."""
        images = self.images.get(VALIDATION)
        return None if images is None else self.batches(images, seed, device, dtype)

    def batches(self, images: Images, seed: int, device: torch.device, dtype: torch.dtype) -> Batches:
        """Return images of any data set, of the model's shape, as a model is shown them outside of training.

        Arguments:
            images: usually one of the splits.
            seed: of what is drawn on the way (binarisation).
            device: where batches are made.
            dtype: their floating-point type.
        """
        return Batches(images, self.recipe, seed, training=False, device=device, dtype=dtype)


def described(images: Mapping[str, Images]) -> str:
    """Return how many images each split has, and what their labels are, for a user to see what was understood."""
    return ", ".join(f"{split}: {len(some):,} images{_labels_of(some)}" for split, some in images.items())


def _labels_of(images: Images) -> str:
    if images.labels is None:
        return ""
    if images.attributes:
        return f" with {len(images.attributes)} attributes"
    return f" in {len(images.classes)} classes"
