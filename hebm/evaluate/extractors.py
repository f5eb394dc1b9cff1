"""Features of images: what distances are measured in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import attrs
import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.errors import ConfigError
from hebm.evaluate.settings import EvaluateSettings
from hebm.evaluate.shares import Processes


class Extractor(ABC):
    """Maps 8-bit images to features. A distance means nothing without the extractor's description beside it.

    Attributes:
        name: as in `evaluate.extractor`.
        widths: length of each kind of feature, by name: at least "features" and "logits".
    """

    name: ClassVar[str]
    widths: Mapping[str, int]

    @abstractmethod
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """uint8 `(B, C, H, W)` → float32 `(B, F)` per name in `widths`."""

    @abstractmethod
    def describe(self) -> dict[str, str | float | bool | None]:
        """Name, weights' sha256 and what else identifies it, for `metrics.json`."""


@attrs.frozen
class ExtractorContext:
    """What an extractor is made from."""

    images: Mapping[str, Images]
    settings: EvaluateSettings
    device: torch.device
    processes: Processes


def check_extractor(name: str, images: Images) -> None:
    """Raise `ConfigError` if the extractor of this name cannot be had for a data set, by its training split."""
    if name == "classifier" and (images.labels is None or len(images.classes) < 2):
        raise ConfigError(
            'evaluate.extractor: "classifier" needs images with class labels, and these have none; '
            'use evaluate.extractor = "inception"'
        )


def make_extractor(name: str, context: ExtractorContext) -> Extractor:
    """The extractor of this name: "classifier" (trained, or from the cache) or "inception"."""
    from hebm.evaluate.classifier import classifier_extractor
    from hebm.evaluate.inception import inception_extractor

    return {"classifier": classifier_extractor, "inception": inception_extractor}[name](context)
