"""The way from the base to the prior: what each stage, or level of noise, adds."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from hebm.analyse.plots import Line, save_curves
from hebm.analyse.recipe import AnalysisRecipe
from hebm.analyse.section import Picture, Section, Table, write_csv
from hebm.config.recipe import option, recipe
from hebm.errors import ConfigError, NonFiniteError
from hebm.evaluate.auroc import auroc
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.gap import gap_closed
from hebm.evaluate.references import EvenSubset
from hebm.evaluate.scores import Scorer, scan
from hebm.interfaces import PriorLearner, Request
from hebm.report.grids import save_strip
from hebm.report.numbers import percent, significant
from hebm_plugins.analyses.drawing import contexts_of, draws, images_of, tilts
from hebm_plugins.priors.contrast import bce

BASE = "base"
_NOTHING = 2 * math.log(2)


@recipe
class Stages(AnalysisRecipe):
    """Fréchet distance after each stage or level, and what each stage's ratio tells apart, by layer.

    The multi-stage paper's Tables 8 and 9 and its Figures 7 and 8; a diffusion prior's levels beside them.
    """

    images: int = option(2000, low=2, doc="images of each Fréchet distance")
    test: int = option(1000, low=2, doc="test images, and draws, that ratios are tried on")
    columns: int = option(12, low=1, doc="draws that are shown after each stage")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """A prior that is drawn at once."""
        return None if evaluation.prior.milestones() else "its prior has no stages: it is drawn at once"

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """A table and a curve of distances, pictures of the same draws after each stage, the ratios' table."""
        priors = {BASE: evaluation.root, **evaluation.prior.milestones()}
        self._show(evaluation, priors, folder)
        steps = ", ".join(priors)
        picture = Picture("draws.png", "The same noise after each stage", f"Columns: {steps}. A row is a draw.", True)
        table, distances, seconds, remark = self._distances(evaluation, priors)
        ratios = self._ratios(evaluation, list(priors.values()))
        write_csv(folder / "distances.csv", ("after", "fd"), list(distances.items()))
        pictures, tables = [picture], [table]
        if len(distances) > 1:
            pictures.append(_curve(folder, distances))
        if ratios:
            pictures.append(_ratio_curves(folder, ratios))
            tables.append(_ratio_table(ratios))
            write_csv(folder / "ratios.csv", ("stage", *next(iter(ratios.values()))), _rows(ratios))
        numbers = {"fd": distances, "seconds": seconds, "ratios": ratios}
        return Section("Stages", (_TEXT, remark), tuple(pictures), tuple(tables), numbers)

    def _show(self, evaluation: Evaluation, priors: Mapping[str, PriorLearner], folder: Path) -> None:
        frames = [draws(evaluation, self.columns, evaluation.noise("prior"), prior=prior) for prior in priors.values()]
        save_strip([images_of(evaluation, draw) for draw in frames], folder / "draws.png")

    # ------------------------------------------------------------ distances

    def _distances(
        self, evaluation: Evaluation, priors: Mapping[str, PriorLearner]
    ) -> tuple[Table, dict[str, float | None], dict[str, float], str]:
        """FD after each, seconds of its draws, and what to say of it."""
        few = evaluation.beside(samples=min(self.images, evaluation.settings.samples))
        found: dict[str, float | None] = {}
        seconds: dict[str, float] = {}
        try:
            ends = {kind: few.distance(kind) for kind in ("gaussian", "reconstruction")}
        except ConfigError as error:
            return Table("Fréchet distance", ("after",), ()), {}, {}, f"No Fréchet distance: {error}."
        for name, prior in priors.items():
            started, one = time.perf_counter(), few.beside(prior)
            found[name] = ends["gaussian"] if name == BASE else _distance(one)
            seconds[name] = round(time.perf_counter() - started, 3)
        rows = tuple(
            (name, significant(fd), percent(_gap(ends, fd)), significant(seconds[name])) for name, fd in found.items()
        )
        header = ("after", "FD", "gap closed", "seconds")
        caption = (
            f"N = {few.settings.samples}, {few.settings.extractor_name}; reconstructions are at "
            f"{significant(ends['reconstruction'])}. Seconds: drawing, decoding and features of these."
        )
        return Table("Fréchet distance after each stage", header, rows, caption), found, seconds, _remark(found)

    # ------------------------------------------------------------ ratios

    def _ratios(self, evaluation: Evaluation, priors: Sequence[PriorLearner]) -> dict[str, dict[str, float]]:
        """What each stage's ratio makes of test posteriors against draws of the stages before it."""
        found = {}
        for before, (name, factor) in zip(priors, evaluation.prior.factors().items(), strict=False):
            positive, negative = self._log_ratios(evaluation, before, factor)
            layers = bce(positive, negative)
            found[name] = {
                "bce": float(bce(positive.sum(1), negative.sum(1))),
                "auroc": auroc(positive.sum(1), negative.sum(1)),
                **{f"bce_layer_{i}": float(value) for i, value in enumerate(layers)},
            }
        return found

    def _log_ratios(self, evaluation: Evaluation, before: PriorLearner, factor: PriorLearner) -> tuple[Tensor, Tensor]:
        """log r per layer of test images' latents `(N, E)`, and of as many draws, in the contexts of those latents."""
        scorer = Scorer.of(evaluation)
        images = EvenSubset(evaluation.images["test"], self.test)
        positive = scan(
            evaluation, images, lambda batch, noise: factor.tilt(scorer.inferred(batch, noise.derive(0))), "inside"
        )
        given = Request(context=contexts_of(evaluation, images, scorer))
        drawn = draws(evaluation, len(images), evaluation.noise("stages"), given, before, as_trained=True)
        return positive, tilts(evaluation, factor, drawn)


_TEXT = (
    "Draws after each stage (or level of noise, whose noise is still in them) from the same random numbers. A stage's "
    "ratio is tried on latents inferred from test images against draws of the stages before it, by chains as long as "
    "in training: a BCE of 2 log 2 = 1.386 nats, or an AUROC of 0.5, says that it cannot tell them apart."
)


def _distance(evaluation: Evaluation) -> float | None:
    """FD of the prior; None where a draw is not finite."""
    try:
        return evaluation.distance("prior")
    except NonFiniteError:
        return None


def _gap(ends: Mapping[str, float], fd: float | None) -> float | None:
    return None if fd is None else gap_closed(ends["gaussian"], fd, ends["reconstruction"])


def _remark(found: Mapping[str, float | None]) -> str:
    if None in found.values():
        return "Some draws are not finite: chains diverge. Lower the sampler's step size."
    known = {name: fd for name, fd in found.items() if fd is not None}
    best, last = min(known, key=known.__getitem__), list(known)[-1]
    if best == last:
        return "The distance is lowest after the last stage."
    return (
        f"The distance is lowest after {best} ({significant(known[best])}); after {last} it is "
        f"{significant(known[last])}: what comes later makes draws worse in this measure."
    )


def _curve(folder: Path, distances: Mapping[str, float | None]) -> Picture:
    y = [math.nan if fd is None else fd for fd in distances.values()]
    save_curves(folder / "distances.png", {"Fréchet distance": {"FD": Line(list(range(len(y))), y)}}, "stages done")
    return Picture("distances.png", "Fréchet distance after each stage", f"From the left: {', '.join(distances)}.")


def _ratio_curves(folder: Path, ratios: Mapping[str, Mapping[str, float]]) -> Picture:
    stages = list(range(1, len(ratios) + 1))
    layers = [key for key in next(iter(ratios.values())) if key.startswith("bce_layer_")]
    by_stage = {"all layers": Line(stages, [found["bce"] for found in ratios.values()])}
    by_layer = {name: Line(list(range(len(layers))), [f[key] for key in layers]) for name, f in ratios.items()}
    panels = {"BCE by stage, nats": by_stage, "BCE by layer, 0 = top": by_layer}
    save_curves(folder / "ratios.png", panels, "stage; layer", level=_NOTHING)
    caption = "The dashes are at 2 log 2, where a ratio tells nothing apart."
    return Picture("ratios.png", "What each stage's ratio tells apart", caption)


def _ratio_table(ratios: Mapping[str, Mapping[str, float]]) -> Table:
    rows = tuple((name, f"{found['bce']:.4f}", f"{found['auroc']:.4f}") for name, found in ratios.items())
    caption = "Test latents against draws of the stages before; 1.386 and 0.5 where they cannot be told apart."
    return Table("What each stage's ratio tells apart", ("ratio", "BCE, nats", "AUROC"), rows, caption)


def _rows(ratios: Mapping[str, Mapping[str, float]]) -> list[tuple[object, ...]]:
    return [(name, *found.values()) for name, found in ratios.items()]
