"""Score two sets of images, and show how well the scores separate them: tables as in the papers, curves, histograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.analysis.plots import Line, save_curves, save_histograms
from hebm.analysis.section import Picture, Table, write_csv
from hebm.data.images import Images
from hebm.evaluation.detection import Detection, detection
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.scores import Scorer, lowest_where_no_number, scan
from hebm.interfaces import Batch, Regenerates
from hebm.noise import Noise
from hebm.report.chain import evenly

Score = Callable[[Batch, Noise], Tensor]
INFERENCE, REGENERATED, LOG_PRIOR = "by inference", "regenerated", "by inference, with −|u|²/2"
ALONE = "by inference, the ratio of {} alone"
CONTROL = "control: −|u|²/2, nothing learned"
_SIDES = ("inside", "outside")
METRICS = {"auroc": "AUROC", "auprc": "AUPRC", "fpr95": "FPR95"}


@attrs.frozen(eq=False)
class Scores:
    """One kind of score on two sets.

    Arguments:
        inside: scores of the in-distribution images by k, each `(N,)`.
        outside: scores of the out-of-distribution images by k, each `(M,)`.
    """

    inside: Mapping[int, Tensor]
    outside: Mapping[int, Tensor]

    @property
    def overflowed(self) -> int:
        """Count the images outside whose score is not finite at some k."""
        return int(torch.stack([~scores.isfinite() for scores in self.outside.values()]).any(0).sum())

    def detections(self) -> dict[int, Detection]:
        """Measure how well the scores separate the sets, for each k. Images inside are the positives."""
        return {k: detection(self.inside[k], self.outside[k]) for k in self.inside}


def all_scores(evaluation: Evaluation, sets: Sequence[Images], draws: int, thresholds: int) -> dict[str, Scores]:
    """Return all kinds of scores of two sets.

    They are the tilt and each stage's ratio of inferred latents, the tilt of regenerated latents if the prior supports
    this, the log prior Σ f − |u|²/2 if it has an unnormalised density, and the control −|u|²/2.

    Arguments:
        evaluation: evaluation of the model.
        sets: the images inside, and the images outside.
        draws: posterior draws over which a score is averaged.
        thresholds: largest number of k to regenerate at, evenly spaced.
    """
    scorer = Scorer(evaluation.model, draws)
    found = {INFERENCE: _by_column(evaluation, sets, scorer.scores)}
    energies = list(found[INFERENCE].inside)
    ratios = {stage.name: stage.ratio(None) for stage in evaluation.model.transitions if stage.ratio is not None}
    for name, ratio in ratios.items() if len(ratios) > 1 else ():
        found[ALONE.format(name)] = _by_column(evaluation, sets, partial(scorer.scores, tilt=ratio))
    if isinstance(evaluation.model.prior, Regenerates):
        chosen = [energies[i] for i in evenly(len(energies), thresholds)]
        found[REGENERATED] = _regenerated(evaluation, sets, scorer, chosen)
    control = _by_column(evaluation, sets, scorer.gaussian)
    if scorer.has_density:
        found[LOG_PRIOR] = _sum(found[INFERENCE], control)
    return {**found, CONTROL: Scores(*({k: side[k] for k in energies} for side in (control.inside, control.outside)))}


def _sum(a: Scores, b: Scores) -> Scores:
    """Add two scores at every k of the first."""
    sides = ((a.inside, b.inside), (a.outside, b.outside))
    # ∞ − ∞ is not a number
    return Scores(*({k: lowest_where_no_number(mine[k] + other[k]) for k in mine} for mine, other in sides))


def _by_column(evaluation: Evaluation, sets: Sequence[Images], score: Score) -> Scores:
    parts = [
        scan(evaluation, images, score, name, name == _SIDES[1]) for images, name in zip(sets, _SIDES, strict=True)
    ]
    return Scores(*({k: part[:, k] for k in range(part.shape[1])} for part in parts))


def _regenerated(evaluation: Evaluation, sets: Sequence[Images], scorer: Scorer, ks: Sequence[int]) -> Scores:
    def side(images: Images, name: str) -> dict[int, Tensor]:
        return {k: scan(evaluation, images, partial(scorer.regenerated, k=k), name, name == _SIDES[1]) for k in ks}

    return Scores(*(side(images, name) for images, name in zip(sets, _SIDES, strict=True)))


# ---------------------------------------------------------------- tables and plots


def tables(found: Mapping[str, Mapping[int, Detection]], most: int = 10) -> tuple[Table, ...]:
    """Make a table for each metric, with a row for each kind of score and a column for each k."""
    every = sorted({k for detections in found.values() for k in detections})
    columns = [every[i] for i in evenly(len(every), most)]
    header = ("", *(f"L>{k}" for k in columns))
    made = []
    for field, title in METRICS.items():
        rows = [(name, *(_cell(detections.get(k), field) for k in columns)) for name, detections in found.items()]
        made.append(Table(title, header, tuple(rows), _CAPTIONS[field]))
    return tuple(made)


_CAPTIONS = {
    "auroc": "P(score inside > score outside). L>k: layers above k, counted from the bottom. 0.5 is chance.",
    "auprc": "Average precision; the images inside are the positives.",
    "fpr95": "Share of outside images that score above the threshold that 95 % of inside images reach.",
}


def _cell(found: Detection | None, field: str) -> str:
    return "–" if found is None else f"{getattr(found, field):.4f}"


def save_detections(folder: Path, found: Mapping[str, Mapping[int, Detection]]) -> None:
    """Write `detection.csv`, a row for each kind of score and k. Raises `CheckpointError`."""
    rows = [(name, k, *metrics) for name, detections in found.items() for k, metrics in detections.items()]
    write_csv(folder / "detection.csv", ("score", "k", *Detection._fields), rows)


def curves(folder: Path, found: Mapping[str, Mapping[int, Detection]]) -> tuple[Picture, ...]:
    """Plot AUROC over k, if there are several k."""
    if max(map(len, found.values())) < 2:
        return ()
    lines = {name: Line(list(ks), [ks[k].auroc for k in ks]) for name, ks in found.items()}
    save_curves(folder / "auroc.png", {"AUROC": lines}, "k: layers above the k-th from the bottom", level=0.5)
    return (Picture("auroc.png", "AUROC over k", "Below the dashed line, scores are higher outside than inside."),)


def histograms(folder: Path, scores: Mapping[str, Scores], labels: tuple[str, str]) -> tuple[Picture, ...]:
    """Plot histograms of both sets for the lowest, a middle and the highest k, by inference and regenerated."""
    made = []
    for name, file in ((INFERENCE, "inference.png"), (REGENERATED, "regenerated.png")):
        if name not in scores:
            continue
        found = scores[name]
        ks = list(found.inside)
        panels = {
            f"L>{k}": {labels[0]: found.inside[k], labels[1]: found.outside[k]}
            for k in (ks[i] for i in evenly(len(ks), 3))
        }
        save_histograms(folder / file, panels, "Σ f of the layers above k")
        made.append(Picture(file, f"Scores {name}", "Images like the training data should score high."))
    return tuple(made)


def in_words(found: Mapping[int, Detection]) -> str:
    """Summarise the AUROC of one kind of score in words, failures included."""
    best = max(found, key=lambda k: found[k].auroc)
    highest = f"{found[best].auroc:.3f}"
    upside_down = [f"L>{k}" for k in found if found[k].auroc < 0.5]
    if len(upside_down) == len(found):
        return f"it fails: at every k, scores are higher outside than inside. The best AUROC is {highest}."
    where = (
        f" It fails at {', '.join(upside_down)}, where scores are higher outside than inside." if upside_down else ""
    )
    return f"the best AUROC is {highest}, with the layers above {best} (L>{best}).{where}"


def against_control(found: Mapping[str, Mapping[int, Detection]]) -> str:
    """State the best AUROC of each kind of score, and whether f alone beats the control −|u|²/2."""
    best = {name: max(d.auroc for d in ks.values()) for name, ks in found.items()}
    listed = "; ".join(f"{name}, {auroc:.3f}" for name, auroc in best.items())
    learned = max(auroc for name, auroc in best.items() if name in (INFERENCE, REGENERATED))
    verdict = "f alone does not beat the control." if learned <= best[CONTROL] else "f beats the control."
    return f"The best AUROC of each score: {listed}. {verdict}"


def plain(found: Mapping[str, Mapping[int, Detection]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return all metrics in a form that JSON can hold."""
    return {name: {str(k): d._asdict() for k, d in ks.items()} for name, ks in found.items()}


def log_joint(scorer: Scorer) -> Score:
    """Return a score of one posterior draw: log p(x|z), and log p(x|z) + f(z) + log N(u; 0, I) + constant, `(B, 2)`.

    For a prior without an unnormalised density, it is log p(x|z) alone, `(B, 1)`.
    """

    def score(batch: Batch, noise: Noise) -> Tensor:
        latents = scorer.inferred(batch, noise.derive(0))
        model = scorer.model
        likelihood = model.backbone.likelihood(latents).log_prob(batch.target)
        if not scorer.has_density or model.tilt is None:
            return likelihood.unsqueeze(1)
        prior = model.tilt.at(model.backbone, latents).sum(1) - 0.5 * latents.u.square().sum(1)
        return torch.stack([likelihood, likelihood + prior], dim=1)

    return score
