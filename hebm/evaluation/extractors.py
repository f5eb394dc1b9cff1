"""Feature networks, in whose features distances between sets of images are measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import attrs
import torch
from torch import Tensor

from hebm import defaults, registry
from hebm.data.images import Images
from hebm.errors import ConfigError, PluginError
from hebm.evaluation.shares import Processes

Note = str | float | bool | None


class Extractor(ABC):
    """Maps 8-bit images to features. A distance means nothing without the description of its extractor.

    Each image has features of its own: they do not depend on the other images of a batch.

    Attributes:
        name: as it is registered.
        widths: length of each kind of feature by name: at least "features", and "logits" if it classifies.
        sha256: of the weights, and of every setting that changes features. Two numbers are comparable only if name
            and sha256 of their extractors are equal.
    """

    name: str
    widths: Mapping[str, int]
    sha256: str

    @abstractmethod
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 `(B, C, H, W)` to float32 `(B, F)` per name in `widths`, without gradients."""

    def notes(self) -> Mapping[str, Note]:
        """Return what else to know of it, such as an accuracy; it does not decide what is comparable."""
        return {}

    def describe(self) -> dict[str, Note]:
        """Return the description that is stored with every number: name, sha256, length of the features, notes."""
        return {"name": self.name, "sha256": self.sha256, "features": self.widths["features"], **self.notes()}


@attrs.frozen
class ExtractorContext:
    """The inputs from which an extractor is made.

    Arguments:
        images: the data set by split, "train" and "test".
        cache: folder for weights that take time to make (`hebm.evaluation.weights_cache`).
        device: where to compute.
        processes: several processes share the work; the first one's weights are everyone's.
        say: tells the user what takes long, such as training.
    """

    images: Mapping[str, Images]
    cache: Path
    device: torch.device
    processes: Processes
    say: Callable[[str], None] = lambda message: None


class ExtractorRecipe(ABC):
    """An extractor as a configuration names it; registered in the group `hebm_extractors`.

    Attributes:
        needs_classes: whether the data set must have class labels, at least two.
        channels: the numbers of channels that it takes; empty for any.
        width: the number of features, if it is known before the extractor is loaded.
    """

    group: ClassVar[str] = "hebm_extractors"
    needs_classes: ClassVar[bool] = False
    channels: ClassVar[tuple[int, ...]] = ()
    width: ClassVar[int | None] = None

    @abstractmethod
    def build(self, context: ExtractorContext) -> Extractor:
        """Make the extractor: read its weights, or train it. Called by `load`, after `check`."""

    @classmethod
    def unsuited(cls, images: Images) -> str | None:
        """Return why such images cannot be given to it, or None."""
        if cls.needs_classes and (images.labels is None or len(images.classes) < 2):
            return "needs images with class labels, and these have none"
        if cls.channels and images.shape[0] not in cls.channels:
            return f"takes images of {' or '.join(map(str, cls.channels))} channels, these have {images.shape[0]}"
        return None

    def check(self, images: Images) -> None:
        """Check that it can be used, before training and before it is loaded.

        Arguments:
            images: the train split.

        Raises `ConfigError` if it is not suited to the images, `HebmError` if its weights cannot be used.
        """
        self.check_suited(images)
        self.check_weights()

    def check_suited(self, images: Images) -> None:
        """Raise `ConfigError` if it is not suited to a data set, by its train split."""
        reason = self.unsuited(images)
        if reason:
            name = registry.name_of(self)
            raise ConfigError(f'evaluate.extractors: "{name}" {reason}; {_others(name, images)}')

    def check_weights(self) -> None:  # noqa: B027 some are trained, and some have none
        """Raise `HebmError` if weights that were made elsewhere are missing or are not the stated file."""

    def is_ready(self, context: ExtractorContext) -> bool:
        """Return whether `build` only reads weights. Override it where they may have to be trained first."""
        return True

    def load(self, context: ExtractorContext) -> Extractor:
        """Check that it is suited to the data, then make it. Raises `ConfigError` if it is not."""
        self.check_suited(context.images["train"])
        return self.build(context)


def default_extractor(images: Images) -> ExtractorRecipe:
    """Return the first default extractor that is suited to a data set; if none is, the first, whose `check` fails."""
    made: list[ExtractorRecipe] = [default() for default in defaults.EXTRACTORS]
    return next((recipe for recipe in made if recipe.unsuited(images) is None), made[0])


def require_one(used: dict[str, ExtractorRecipe], recipe: ExtractorRecipe) -> str:
    """Record that an evaluation uses an extractor, and return the name under which results refer to it.

    Arguments:
        used: the recipes that the evaluation uses by name; this one is added.
        recipe: of the extractor.

    Raises `ConfigError` if another recipe of the same name is used already.
    """
    name = registry.name_of(recipe)
    if used.setdefault(name, recipe) != recipe:
        raise ConfigError(
            f'evaluate: two extractors "{name}" with different settings, {recipe} and {used[name]}; give '
            "evaluate.extractors and evaluate.metrics the same"
        )
    return name


def _others(name: str, images: Images) -> str:
    """Say which other extractors are suited to a data set."""
    group = ExtractorRecipe.group
    suited = [f'"{other}"' for other in registry.names(group) if other != name and _suits(group, other, images)]
    return f"use {' or '.join(suited)} instead" if suited else "no installed extractor is suited to them"


def _suits(group: str, name: str, images: Images) -> bool:
    try:
        return registry.find(group, name).unsuited(images) is None
    except PluginError:
        return False
