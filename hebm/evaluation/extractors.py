"""Interfaces of extractors: networks whose features distances between sets of images compare."""

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
    """Maps 8-bit images to features. Distances are stored with the description of their extractor.

    The features of an image must not depend on the other images of its batch.

    Attributes:
        name: registered name.
        widths: length of each output by name: at least "features", and "logits" for a classifier.
        sha256: hash of the weights and of every setting that changes features. Two numbers are comparable only if name
            and sha256 of their extractors are equal.
    """

    name: str
    widths: Mapping[str, int]
    sha256: str

    @abstractmethod
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 `(B, C, H, W)` to float32 `(B, F)` per name in `widths`, without gradients."""

    def notes(self) -> Mapping[str, Note]:
        """Return further information, such as an accuracy. Numbers stay comparable if it differs."""
        return {}

    def describe(self) -> dict[str, Note]:
        """Return the description stored with every number: name, sha256, length of the features, notes."""
        return {"name": self.name, "sha256": self.sha256, "features": self.widths["features"], **self.notes()}


@attrs.frozen
class ExtractorContext:
    """The inputs for building an extractor.

    Arguments:
        images: the data set by split, "train" and "test".
        cache: folder for trained weights (`hebm.evaluation.weights_cache`).
        device: device of the network.
        processes: the processes that share the work; all use the weights of the first one.
        say: shows the user a message, for example before a long training.
    """

    images: Mapping[str, Images]
    cache: Path
    device: torch.device
    processes: Processes
    say: Callable[[str], None] = lambda message: None


class ExtractorRecipe(ABC):
    """Recipe of an extractor, registered in the group `hebm_extractors`.

    Attributes:
        needs_classes: whether the data set must have labels of at least two classes.
        channels: supported numbers of channels; empty for any.
        width: number of features, if known before the extractor is loaded.
    """

    group: ClassVar[str] = "hebm_extractors"
    needs_classes: ClassVar[bool] = False
    channels: ClassVar[tuple[int, ...]] = ()
    width: ClassVar[int | None] = None

    @abstractmethod
    def build(self, context: ExtractorContext) -> Extractor:
        """Build the extractor: read its weights, or train it. `load` calls this after `check_suited`."""

    @classmethod
    def unsuited(cls, images: Images) -> str | None:
        """Return why the extractor does not support these images; None if it does."""
        if cls.needs_classes and (images.labels is None or len(images.classes) < 2):
            return "needs images with class labels, and these have none"
        if cls.channels and images.shape[0] not in cls.channels:
            return f"takes images of {' or '.join(map(str, cls.channels))} channels, these have {images.shape[0]}"
        return None

    def check(self, images: Images) -> None:
        """Check before training that the extractor can be used.

        Arguments:
            images: the train split.

        Raises `ConfigError` if it does not suit the images, and `HebmError` if its weights cannot be used.
        """
        self.check_suited(images)
        self.check_weights()

    def check_suited(self, images: Images) -> None:
        """Raise `ConfigError` if the extractor does not suit these images, the train split of a data set."""
        reason = self.unsuited(images)
        if reason:
            name = registry.name_of(self)
            raise ConfigError(f'evaluate.extractors: "{name}" {reason}; {_others(name, images)}')

    def check_weights(self) -> None:  # noqa: B027 trained extractors have no weight files to check
        """Raise `HebmError` if a file of published weights is missing, or is not the expected one."""

    def is_ready(self, context: ExtractorContext) -> bool:
        """Return whether `build` only reads weights. Override this if they may have to be trained first."""
        return True

    def load(self, context: ExtractorContext) -> Extractor:
        """Build the extractor. Raises `ConfigError` if it does not suit the data."""
        self.check_suited(context.images["train"])
        return self.build(context)


def default_extractor(images: Images) -> ExtractorRecipe:
    """Return the first default extractor that suits a data set. If none does, return the first, whose `check` fails."""
    made: list[ExtractorRecipe] = [default() for default in defaults.EXTRACTORS]
    return next((recipe for recipe in made if recipe.unsuited(images) is None), made[0])


def require_one(used: dict[str, ExtractorRecipe], recipe: ExtractorRecipe) -> str:
    """Record that an evaluation uses an extractor, and return the extractor's name in the results.

    Arguments:
        used: recipes in use, by name; `recipe` is added.
        recipe: recipe of the extractor.

    Raises `ConfigError` if another recipe of the same name is in use.
    """
    name = registry.name_of(recipe)
    if used.setdefault(name, recipe) != recipe:
        raise ConfigError(
            f'evaluate: two extractors "{name}" with different settings, {recipe} and {used[name]}; give '
            "evaluate.extractors and evaluate.metrics the same settings"
        )
    return name


def _others(name: str, images: Images) -> str:
    """Return advice that names the other extractors that suit a data set."""
    group = ExtractorRecipe.group
    suited = [f'"{other}"' for other in registry.names(group) if other != name and _suits(group, other, images)]
    return f"use {' or '.join(suited)} instead" if suited else "no installed extractor is suited to them"


def _suits(group: str, name: str, images: Images) -> bool:
    try:
        return registry.find(group, name).unsuited(images) is None
    except PluginError:
        return False
