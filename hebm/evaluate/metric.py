"""What a metric is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from hebm.data.images import Images
    from hebm.evaluate.evaluation import Evaluation
    from hebm.evaluate.settings import EvaluateSettings


class MetricRecipe(ABC):
    """Group `hebm_metrics`."""

    group: ClassVar[str] = "hebm_metrics"

    def check(self, images: Mapping[str, Images], settings: EvaluateSettings) -> None:  # noqa: B027 optional
        """Called before training: raise `ConfigError` if it could not be computed for these splits and settings."""

    @abstractmethod
    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """Entries for `metrics.json`: numbers, strings, or nested mappings of them."""
