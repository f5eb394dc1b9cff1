"""Evaluate given images, which are not from a run, against the images of a data set.

Kinds of images (`hebm.evaluation.kinds`): "data", the reference images of the split, and "samples", the given ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, cast

import attrs
import torch
from torch import Tensor
from typing_extensions import override

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
from hebm.noise import BLOCK, whole_blocks
from hebm.trained import TrainedModel
from hebm.training.listeners import Listener

_FEWEST, _ROWS = 2, 8 * BLOCK


@attrs.frozen
class NoModel:
    """Placeholder for the model of an evaluation. Any other attribute raises `NeedsModelError`.

    Arguments:
        seed: seed of random numbers that metrics draw.
        device: device on which features are computed.
        dtype: floating-point type of images.
        adaptations: empty, because nothing is sampled.
    """

    seed: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    adaptations: Mapping[str, tuple[float, float]] = attrs.field(factory=dict)

    def __getattr__(self, name: str) -> NoReturn:
        """Raise `NeedsModelError` for an attribute that only a model has."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise NeedsModelError(f"this needs a trained model (its {name}), but only images were given")


class GivenImages(Evaluation):
    """Evaluates given images against a data set.

    Features of the data are stored in files. Features of the given images are not, because only their pixels identify
    them.

    Arguments:
        given: images of the data's shape; all of them are measured.
        splits: the splits of the data set.
        settings: the `[evaluate]` table; `samples` is the number of reference images.
        seed: seed of random numbers that metrics draw.
        device: device on which features are computed.
        cache_folder: folder of trained extractors.
        store: store of the data's features; None keeps them only in memory.
        listener: a listener that is called with the number of finished images.

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
        """The plan of this evaluation, for the checks of metrics."""
        shown = spec(self.splits["train"], self.splits.recipe)
        return EvaluationPlan(self.splits.images, shown, self.settings, given=self.given)

    @property
    def rows(self) -> int:
        """The number of images in a batch; these need no gradients, so it does not depend on a model."""
        return whole_blocks(self.settings.batch_size or _ROWS)

    @override
    def count(self, kind: Kind) -> int:
        return len(self.given) if kind == SAMPLES else super().count(kind)

    def decoded(self, kind: Kind, start: int, rows: int) -> Tensor:
        """Return images `start` … `start + rows − 1` of a kind, `(rows, C, H, W)` in [−1, 1]."""
        if kind == SAMPLES:
            return self.given.read(torch.arange(start, start + rows))
        return super().decoded(kind, start, rows)

    def read_all(self) -> None:
        """Decode every image once. Raises `DataError` that names the first unusable one."""
        for span in self.batches("images", len(self.given)):
            self.pixel_batch(SAMPLES, *span)

    def conditions(self) -> dict[str, Any]:
        """Return the number of given images and their fingerprint."""
        return {"n": len(self.given), "images": self.given.fingerprint()}

    def measured_on(self, samples: int) -> GivenImages:
        """Return the same evaluation with another number of reference images. The two share extractors."""
        settings = attrs.evolve(self.settings, samples=samples)  # type: ignore[misc]
        where = self.model.seed, self.model.device, self.cache_folder, self.store, self.listener
        other = GivenImages(self.given, self.splits, settings, *where)
        other.extractors, other._recipes = self.extractors, self._recipes
        return other

    def _kept(self, kind: Kind, model: Extractor) -> KeptFeatures | None:
        return None if kind == SAMPLES else super()._kept(kind, model)
