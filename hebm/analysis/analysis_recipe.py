"""The interface of an analysis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from hebm.analysis.section import Section
    from hebm.evaluation.evaluation import Evaluation


class AnalysisRecipe(ABC):
    """Group `hebm_analyses`: an analysis that `hebm analyse` runs, beyond what an evaluation measures."""

    group: ClassVar[str] = "hebm_analyses"

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return, for a user, why this model or its data cannot be analysed; None if they can."""
        return None

    @abstractmethod
    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Run the analysis. Pictures, and tables for programs, go into `folder`, which exists and is empty."""
