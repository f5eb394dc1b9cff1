"""Anomaly detection: separate a class that was left out of training from the other classes.

References:
    Learning Latent Space Energy-Based Prior Model, arXiv 2006.08205 (a held-out digit).
    Learning Joint Latent Space EBM Prior Model for Multi-layer Generator, arXiv 2306.06323.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.plots import save_histograms
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import option, recipe
from hebm.data.chosen import left_out, of_classes
from hebm.evaluation.detection import Detection, detection
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.references import EvenSubset
from hebm.evaluation.scores import Scorer, scan
from hebm_plugins.analyses.detection_scores import CONTROL, INFERENCE, all_scores, log_joint
from hebm_plugins.analyses.ood import NO_TILT

_LIKELIHOOD, _JOINT = "log p(x|z)", "log p(x|z) + f + log N(u)"


@recipe
class Anomaly(AnalysisRecipe):
    """AUROC and AUPRC of test images of the classes in `data.without` against the others; anomalies are the positives.

    The scores are Σ f over the layers above each k, log p(x|z) and, for a prior with a density, the unnormalised
    log p(x, z). They are negated, so a high score is anomalous. Sources: arXiv 2006.08205 and 2306.06323.

    Example:
        >>> Anomaly(draws=4).draws
        4
    """

    images: int = option(10000, low=2, doc="largest number of test images of each kind; a subset is spread evenly")
    draws: int = option(1, low=1, doc="posterior draws over which Σ f is averaged")
    thresholds: int = option(10, low=1, doc="largest number of k to score, for priors that can regenerate")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason if no class was left out of training, or if the prior has no tilt."""
        if not getattr(evaluation.splits.recipe, "without", ()):
            return 'its data set leaves no class out; train a run with data.without, as in data.without = ["9"]'
        return NO_TILT if evaluation.model.tilt is None else None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Make a table of metrics by score, and histograms. Raises `DataError` if the test split lacks either kind."""
        test, without = evaluation.splits["test"], evaluation.splits.recipe.without  # type: ignore[attr-defined]
        classes = left_out(without, test)
        sets = [EvenSubset(of_classes(test, classes, inside), self.images) for inside in (False, True)]
        names = ", ".join(test.classes[i] for i in classes)
        scores = self._scores(evaluation, sets)
        found = {name: detection(-pair[1], -pair[0]) for name, pair in scores.items()}
        write_csv(
            folder / "detection.csv",
            ("score", "auroc", "auprc"),
            [(name, d.auroc, d.auprc) for name, d in found.items()],
        )
        _histograms(folder, scores, f"left out ({names})")
        best = max(found, key=lambda name: found[name].auprc)
        text = (
            f"Trained without {names}. Of the test images {len(sets[1])} are of these, {len(sets[0])} of the others.",
            f"The best score is {best}, with AUPRC {found[best].auprc:.3f} and AUROC {found[best].auroc:.3f}.",
        )
        share = len(sets[1]) / (len(sets[0]) + len(sets[1]))
        numbers = {"left_out": list(without), "share": share, **{name: d._asdict() for name, d in found.items()}}
        picture = Picture("scores.png", "Scores of test images")
        return Section("Anomaly detection", text, (picture,), (_table(found, share),), numbers)

    def _scores(self, evaluation: Evaluation, sets: list[EvenSubset]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return each score of the images seen `(N,)` and left out `(M,)`."""
        found = {
            f"{'' if kind == CONTROL else 'Σ f '}{kind}, L>{k}": (both.inside[k], both.outside[k])
            for kind, both in all_scores(evaluation, sets, self.draws, self.thresholds).items()
            for k in both.inside
        }
        joint = log_joint(Scorer(evaluation.model))
        pairs = [
            scan(evaluation, images, joint, name, unlike=name == "outside")
            for images, name in zip(sets, ("inside", "outside"), strict=True)
        ]
        for i, name in enumerate((_LIKELIHOOD, _JOINT)[: pairs[0].shape[1]]):
            found[name] = (pairs[0][:, i], pairs[1][:, i])
        return found


def _histograms(folder: Path, scores: Mapping[str, tuple[Tensor, Tensor]], label: str) -> None:
    chosen = [name for name in (f"Σ f {INFERENCE}, L>0", _LIKELIHOOD, _JOINT) if name in scores]
    panels = {name: {"seen": scores[name][0], label: scores[name][1]} for name in chosen}
    save_histograms(folder / "scores.png", panels, "score: high is like the training data")


def _table(found: Mapping[str, Detection], share: float) -> Table:
    rows = tuple((name, f"{d.auroc:.4f}", f"{d.auprc:.4f}") for name, d in found.items())
    caption = f"Anomalies are the positives, by low score; chance is AUROC 0.5, AUPRC {share:.3f}."
    return Table("Detection of what was left out", ("score", "AUROC", "AUPRC"), rows, caption)
