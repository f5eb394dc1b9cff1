"""Define the interface that analyses implement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from hebm.analysis.section import Section
    from hebm.evaluation.evaluation import Evaluation


class AnalysisRecipe(ABC):
    """An analysis that `hebm analyse` runs. Registered in the group `hebm_analyses`."""

    group: ClassVar[str] = "hebm_analyses"

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return why this model or its data cannot be analysed, in words for the user; None if they can."""
        return None

    @abstractmethod
    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Run the analysis and return its section. Write pictures and CSV tables to `folder`, which is empty."""
