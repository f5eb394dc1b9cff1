"""Evaluate images that no run made: a set of samples next to the data that they are compared with.

Kinds of images (`hebm.evaluation.kinds`): "data", the reference images of the split, and "samples", the given ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, cast

import attrs
import torch
from torch import Tensor

from hebm.config.settings import CACHE_FOLDER
from hebm.data.dataset_recipe import spec
from hebm.data.images import Images
from hebm.data.splits import Splits
from hebm.errors import DataError, NeedsModelError
from hebm.evaluation.drawn_images import Kind
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.extractors import Extractor
from hebm.evaluation.kept_features import FeatureStore, KeptFeatures
from hebm.evaluation.kinds import SAMPLES
from hebm.evaluation.plan import EvaluationPlan
from hebm.evaluation.settings import EvaluateSettings
from hebm.trained import TrainedModel
from hebm.training.listeners import Listener

_FEWEST = 2


@attrs.frozen
class NoModel:
    """Stands where an evaluation has a model. Everything but these values raises `NeedsModelError`.

    Arguments:
        seed: of what metrics draw themselves.
        device: where features are computed.
        dtype: floating-point type of images.
        adaptations: none, because nothing is sampled.
    """

    seed: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    adaptations: Mapping[str, tuple[float, float]] = attrs.field(factory=dict)

    def __getattr__(self, name: str) -> NoReturn:
        """Raise `NeedsModelError` for what only a model has."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise NeedsModelError(f"this needs a trained model (its {name}), and there are only images")


class GivenImages(Evaluation):
    """Images next to the data that they are compared with.

    Features of the data are kept in files. Those of the images are not: nothing but all their pixels identifies them.

    Arguments:
        given: images of the data's shape; all of them are measured.
        splits: the data set.
        settings: the `[evaluate]` table; `samples` is the number of reference images.
        seed: of what metrics draw themselves.
        device: where features are computed.
        cache_folder: where extractors that were trained are kept.
        store: where features of the data are kept; None keeps them in memory alone.
        listener: is told how many images are done.

    Raises `DataError` for fewer than two images.
    """

    kinds = (SAMPLES,)

    def __init__(
        self,
        given: Images,
        splits: Splits,
        settings: EvaluateSettings,
        seed: int,
        device: torch.device,
        cache_folder: str = CACHE_FOLDER,
        store: FeatureStore | None = None,
        listener: Listener | None = None,
    ) -> None:
        if len(given) < _FEWEST:
            count = "1 image" if len(given) else "no image"
            raise DataError(f"there is {count} to measure; at least {_FEWEST} are needed")
        self.given = given
        model = cast("TrainedModel", cast("Any", NoModel(seed, device)))
        super().__init__(model, splits, settings, None, cache_folder, store, listener=listener)

    @property
    def plan(self) -> EvaluationPlan:
        """The plan of this evaluation, which metrics check."""
        shown = spec(self.splits["train"], self.splits.recipe)
        return EvaluationPlan(self.splits.images, shown, self.settings, given=self.given)

    def count(self, kind: Kind) -> int:
        """Return how many images of a kind there are."""
        return len(self.given) if kind == SAMPLES else super().count(kind)

    def decoded(self, kind: Kind, start: int, rows: int) -> Tensor:
        """Return images number `start` to `start + rows` of a kind, `(rows, C, H, W)` in [−1, 1]."""
        if kind == SAMPLES:
            return self.given.read(torch.arange(start, start + rows))
        return super().decoded(kind, start, rows)

    def read_all(self) -> None:
        """Decode every image once. Raises `DataError` naming the first that cannot be used."""
        for span in self.batches("images", len(self.given)):
            self.pixel_batch(SAMPLES, *span)

    def conditions(self) -> dict[str, Any]:
        """Return how many images there are, and what identifies them."""
        return {"n": len(self.given), "images": self.given.fingerprint()}

    def measured_on(self, samples: int) -> GivenImages:
        """Return the same evaluation with another number of reference images; extractors are shared."""
        settings = attrs.evolve(self.settings, samples=samples)  # type: ignore[misc]
        where = self.model.seed, self.model.device, self.cache_folder, self.store, self.listener
        other = GivenImages(self.given, self.splits, settings, *where)
        other.extractors, other._recipes = self.extractors, self._recipes
        return other

    def _kept(self, kind: Kind, model: Extractor) -> KeptFeatures | None:
        return None if kind == SAMPLES else super()._kept(kind, model)
