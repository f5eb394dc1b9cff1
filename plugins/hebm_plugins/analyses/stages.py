"""Measure draws after each stage or noise level, from the root to the prior."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.plots import Line, save_curves
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import option, recipe
from hebm.contrasts import bce
from hebm.errors import ConfigError
from hebm.evaluation.auroc import auroc
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.frechet import frechet_distance, moments
from hebm.evaluation.gap import gap_closed
from hebm.evaluation.kinds import DATA, GAUSSIAN, PRIOR, RECONSTRUCTION
from hebm.evaluation.references import EvenSubset
from hebm.evaluation.scores import Scorer, scan
from hebm.interfaces import Request, Tilt
from hebm.pixel_levels import to_pixels
from hebm.report.grids import save_strip
from hebm.report.numbers import percent, significant
from hebm.trained import count_nonfinite
from hebm.transitions import ROOT
from hebm_plugins.analyses.drawing import contexts_of, tilts

_NOTHING = 2 * math.log(2)


@recipe
class Stages(AnalysisRecipe):
    """Fréchet distance after each stage or level, and how well each stage's ratio separates its two sets, by layer.

    It reproduces Tables 8 and 9 and Figures 7 and 8 of the multi-stage paper, and does the same for the levels of a
    diffusion prior.
    """

    images: int = option(2000, low=2, doc="number of images for each Fréchet distance")
    test: int = option(1000, low=2, doc="number of test images, and of draws, on which ratios are tested")
    columns: int = option(12, low=1, doc="number of draws to show after each stage")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Say so for a prior that is drawn in one transition."""
        return None if len(evaluation.model.transitions) > 1 else "its prior has no stages: it draws in one transition"

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Return a table and a curve of distances, pictures of the same draws after each stage, the ratios' table."""
        names = (ROOT, *(stage.name for stage in evaluation.model.transitions))
        self._show(evaluation, folder)
        picture = Picture("draws.png", "The same noise after each stage", f"Columns: {', '.join(names)}.", True)
        table, distances, seconds, remark = self._distances(evaluation)
        ratios = self._ratios(evaluation)
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

    def _show(self, evaluation: Evaluation, folder: Path) -> None:
        model = evaluation.model
        walked = model.walk(self.columns, evaluation.noise(PRIOR), path=model.transitions)
        save_strip([model.images(draw) for _, draw in walked], folder / "draws.png")

    # ------------------------------------------------------------ distances

    def _distances(self, evaluation: Evaluation) -> tuple[Table, dict[str, float | None], dict[str, float], str]:
        """Return FD after each stage, seconds of its draws, and what to say of it."""
        few = evaluation.measured_on(min(self.images, evaluation.settings.samples))
        try:
            ends = {kind: few.distance(kind) for kind in (GAUSSIAN, RECONSTRUCTION)}
        except ConfigError as error:
            return Table("Fréchet distance", ("after",), ()), {}, {}, f"No Fréchet distance: {error}."
        features, seconds = _features(few)
        data = moments(few.features(DATA))
        found = {name: None if f is None else frechet_distance(moments(f), data) for name, f in features.items()}
        rows = tuple(
            (name, significant(fd), percent(_gap(ends, fd)), significant(seconds[name])) for name, fd in found.items()
        )
        header = ("after", "FD", "gap closed", "seconds")
        caption = (
            f"N = {few.settings.samples}, {few.settings.extractor_names[0]}; reconstructions are at "
            f"{significant(ends['reconstruction'])}. Seconds: drawing, decoding and features of these."
        )
        return Table("Fréchet distance after each stage", header, rows, caption), found, seconds, _remark(found)

    # ------------------------------------------------------------ ratios

    def _ratios(self, evaluation: Evaluation) -> dict[str, dict[str, float]]:
        """Measure how well each stage's ratio separates test posteriors from draws of the stages before it.

        A stage is left out if any of its log ratios is not finite.
        """
        found, before = {}, ROOT
        for stage in evaluation.model.transitions:
            if stage.ratio is not None:
                positive, negative = self._log_ratios(evaluation, before, stage.ratio(None))
                if positive.isfinite().all() and negative.isfinite().all():
                    found[stage.name] = _told_apart(positive, negative)
                before = stage.name  # transitions without a ratio only draw the start of a stage's chain
        return found

    def _log_ratios(self, evaluation: Evaluation, before: str, ratio: Tilt) -> tuple[Tensor, Tensor]:
        """Return log r per layer, `(N, E)`, for latents of test images, and for as many draws in the same contexts.

        The chains of these draws are as long as in training.
        """
        scorer = Scorer(evaluation.model)
        images = EvenSubset(evaluation.splits["test"], self.test)
        backbone = evaluation.model.backbone
        positive = scan(
            evaluation,
            images,
            lambda batch, noise: ratio.at(backbone, scorer.inferred(batch, noise.derive(0))),
            "inside",
        )
        given = Request(context=contexts_of(evaluation, images, scorer), after=before)
        drawn = evaluation.model.draw(len(images), evaluation.noise("stages"), given)
        return positive, tilts(evaluation.model, ratio, drawn)


def _features(evaluation: Evaluation) -> tuple[dict[str, Tensor | None], dict[str, float]]:
    """Return the features `(N, F)` and the seconds of each stage, from one walk.

    The features of a stage are None if an image is not finite.
    """
    model, extractor = evaluation.model, evaluation.extractor()
    found: dict[str, list[Tensor]] = {}
    broken, seconds, since = set(), dict[str, float](), time.perf_counter()
    for start, rows in evaluation.batches("stages", evaluation.settings.samples):
        noise = evaluation.noise(PRIOR, start)
        for name, draw in model.walk(rows, noise, path=model.transitions):
            images = model.images(draw)
            broken |= {name} if count_nonfinite(images) else set()
            found.setdefault(name, []).append(extractor(to_pixels(images.nan_to_num()))["features"].cpu())
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - since
            since = time.perf_counter()
    features = {name: None if name in broken else torch.cat(parts) for name, parts in found.items()}
    return features, {name: round(spent, 3) for name, spent in seconds.items()}


_TEXT = (
    "Draws after each stage from the same random numbers. Draws after a level of noise still contain its noise. The "
    "ratio of a stage is tested on latents inferred from test images against draws of the stages before it, whose "
    "chains are as long as in training. A BCE of 2 log 2 = 1.386 nats, or an AUROC of 0.5, means no separation."
)


def _told_apart(positive: Tensor, negative: Tensor) -> dict[str, float]:
    """Return BCE and AUROC of log ratios `(N, E)` summed over layers, and the BCE of each layer."""
    layers = bce(positive, negative)
    return {
        "bce": float(bce(positive.sum(1), negative.sum(1))),
        "auroc": auroc(positive.sum(1), negative.sum(1)),
        **{f"bce_layer_{i}": float(value) for i, value in enumerate(layers)},
    }


def _gap(ends: Mapping[str, float], fd: float | None) -> float | None:
    return None if fd is None else gap_closed(ends[GAUSSIAN], fd, ends[RECONSTRUCTION])


def _remark(found: Mapping[str, float | None]) -> str:
    if None in found.values():
        return "Some draws are not finite: chains diverge. Lower the sampler's step size."
    known = {name: fd for name, fd in found.items() if fd is not None}
    best, last = min(known, key=known.__getitem__), list(known)[-1]
    if best == last:
        return "The distance is lowest after the last stage."
    return (
        f"The distance is lowest after {best} ({significant(known[best])}); after {last} it is "
        f"{significant(known[last])}. By this measure, the later stages make draws worse."
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
    caption = "Dashed line: 2 log 2, the BCE of a ratio that separates nothing."
    return Picture("ratios.png", "Separation by each stage's ratio", caption)


def _ratio_table(ratios: Mapping[str, Mapping[str, float]]) -> Table:
    rows = tuple((name, f"{found['bce']:.4f}", f"{found['auroc']:.4f}") for name, found in ratios.items())
    caption = "Test latents against draws of the stages before. 1.386 and 0.5 mean no separation."
    return Table("Separation by each stage's ratio", ("ratio", "BCE, nats", "AUROC"), rows, caption)


def _rows(ratios: Mapping[str, Mapping[str, float]]) -> list[tuple[object, ...]]:
    return [(name, *found.values()) for name, found in ratios.items()]
