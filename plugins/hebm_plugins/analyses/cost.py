"""The cost of draws: Fréchet distance against the time of a draw, over the length of chains and their start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.compared_plot import Curve, Plot
from hebm.analysis.plots import save_plot
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import option, recipe
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.frechet import Moments, frechet_distance, moments, standard_error
from hebm.evaluation.gap import gap_closed
from hebm.evaluation.kinds import DATA, GAUSSIAN, KINDS, PRIOR, RECONSTRUCTION
from hebm.evaluation.metric import SHARE
from hebm.interfaces import Request
from hebm.noise import BLOCK
from hebm.pixel_levels import to_pixels
from hebm.report.numbers import percent, significant, with_deviation
from hebm.trained import TrainedModel, count_nonfinite
from hebm_plugins.analyses.clocks import Clock, clock_of
from hebm_plugins.analyses.evaluation_counts import Evaluations, evaluations_of


@recipe
class Cost(AnalysisRecipe):
    """Fréchet distance and gap closed after K steps from a start among P draws, against the time of one draw.

    Gap closed is (FD Gaussian − FD) / (FD Gaussian − FD reconstructions) on these images. Every chain of the prior has
    K steps, and so has each layer of an ancestral prior with steps. K = 0 is the start itself. P varies only for priors
    that choose the start of a chain. An adapted step size is kept. The time is that of drawing, without decoding and
    feature extraction.

    Example:
        >>> Cost(steps=(0, 10), proposals=(1,)).steps
        (0, 10)
    """

    samples: int = option(2000, low=2, doc="N, draws of each point, and images of the data if the split has as many")
    steps: tuple[int, ...] = option((0, 5, 10, 15, 30), low=0, doc="values of K, the number of steps of each chain")
    proposals: tuple[int, ...] = option(
        (1, 8), low=1, doc="values of P, the number of draws from which a start is chosen; 1 for no choice"
    )
    within: float = option(
        0.05, low=0, high=1, doc="share of the gap that the recommended point may close less than the best one"
    )

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason for a prior without a chain, and for images that the extractor does not take."""
        if not any(transition.length or transition.start_proposals for transition in evaluation.model.route):
            return "a draw of its prior has no number of steps that could be changed: it runs no chain"
        return evaluation.unsuited

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Return a table of points, a plot, and the cheapest point that is nearly the best."""
        evaluation = evaluation.measured_on(self.samples)
        ends = {kind: evaluation.distance(kind) for kind in (GAUSSIAN, RECONSTRUCTION)}
        data, clock = moments(evaluation.features(DATA)), clock_of(evaluation.model.device)
        _ = evaluation.model.path  # step sizes are adapted before any time is measured
        points = [
            _with_gap(_measured(evaluation, request, data, clock), ends[GAUSSIAN], ends[RECONSTRUCTION])
            for request in self._requests(evaluation.model)
        ]
        return _section(evaluation, points, ends, clock, self.within, folder)

    def _requests(self, model: TrainedModel) -> list[Request]:
        """Return the request of each point, by P and then by K."""
        proposals = self.proposals if any(transition.start_proposals for transition in model.route) else (None,)
        steps = self.steps if any(transition.length for transition in model.route) else (0,)
        return [attrs.evolve(model.request, steps=k, start_proposals=p) for p in proposals for k in steps]


@attrs.frozen
class Point:
    """The quality and cost of draws for one K and P.

    Arguments:
        steps: K.
        proposals: P; None for a prior that does not choose its start.
        fd: Fréchet distance to the data; None where an image is not finite.
        error: its standard error.
        seconds: time of one draw.
        evaluations: evaluations of f for one draw.
        gap, gap_error: the share of the gap that is closed, and its standard error.
    """

    steps: int
    proposals: int | None
    fd: float | None
    error: float | None
    seconds: float
    evaluations: Evaluations
    gap: float | None = None
    gap_error: float | None = None

    @property
    def name(self) -> str:
        """K and P, for people."""
        return f"K = {self.steps}" + (f", P = {self.proposals}" if self.proposals is not None else "")


def _measured(evaluation: Evaluation, request: Request, data: Moments, clock: Clock) -> Point:
    model, extractor, n = evaluation.model.changed(request=request), evaluation.extractor(), evaluation.settings.samples
    steps = request.steps or 0
    model.draw(min(n, BLOCK), model.noise("warm-up"), attrs.evolve(request, steps=min(1, steps)))
    counted, features, seconds, broken = evaluations_of(model), [], 0.0, False
    for start, rows in evaluation.batches(f"draws of {steps} steps", n):
        noise = evaluation.noise(PRIOR, start)
        began = clock.read()
        draw = model.draw(rows, noise)
        seconds += clock.read() - began
        images = model.images(draw, noise)
        broken = broken or count_nonfinite(images) > 0
        features.append(extractor(to_pixels(images.nan_to_num()))["features"].cpu())
    whole = torch.cat(features)
    fd = None if broken else frechet_distance(moments(whole), data)
    error = None if broken else standard_error(whole, data)
    return Point(steps, request.start_proposals, fd, error, seconds / n, counted)


def _with_gap(point: Point, worst: float, best: float) -> Point:
    if point.fd is None or point.error is None or worst <= best:
        return point
    return attrs.evolve(point, gap=gap_closed(worst, point.fd, best), gap_error=point.error / (worst - best))


# ---------------------------------------------------------------- the section

_TITLE = "Fréchet distance against sampling time"
_TEXT = (
    "Draws of the learned prior after K steps of each chain, and from a start that is chosen among P draws of the root "
    "where the prior has such a start. K = 0 is the start itself. Weights and step size are the same everywhere."
)
_DIVERGES = "Some draws are not finite: chains diverge. Lower the sampler's step size."
_CAPTION = "The number at a point is K. ±: standard error of N draws; the data and both levels are taken as given."


def _section(
    evaluation: Evaluation,
    points: Sequence[Point],
    ends: Mapping[str, float],
    clock: Clock,
    within: float,
    folder: Path,
) -> Section:
    plot, rows = _plot(evaluation, points, ends, clock), [_row(point) for point in points]
    save_plot(folder / "cost.png", plot)
    write_csv(folder / "cost.csv", tuple(rows[0]), [tuple(row.values()) for row in rows])
    return Section(
        "Sampling cost",
        (_TEXT, *([_DIVERGES] if any(point.fd is None for point in points) else [])),
        (Picture("cost.png", _TITLE, _CAPTION, timed=True),),
        (_table(evaluation, points, ends),),
        {"n": evaluation.settings.samples, "clock": clock.name, "fd": ends, "points": rows},
        (recommendation(points, within), f"The clock is {clock.name}; it covers drawing, not decoding or extractor."),
        (plot,),
    )


def _row(point: Point) -> dict[str, float | None]:
    """Return a point as numbers, by the heads of the file for programs."""
    return {
        "steps": point.steps,
        "proposals": point.proposals,
        "fd": point.fd,
        "fd_error": point.error,
        "gap_closed": point.gap,
        "gap_error": point.gap_error,
        "seconds": point.seconds,
        "gradients": point.evaluations.gradients,
        "values": point.evaluations.values,
    }


def _table(evaluation: Evaluation, points: Sequence[Point], ends: Mapping[str, float]) -> Table:
    header = ("draws", "FD", "gap closed", "ms for one", "gradients of f", "values of f")
    rows = tuple(
        (
            point.name,
            with_deviation(point.fd, point.error, ""),
            with_deviation(point.gap, point.gap_error, SHARE),
            significant(1000 * point.seconds),
            significant(point.evaluations.gradients),
            significant(point.evaluations.values),
        )
        for point in points
    )
    levels = ", ".join(f"{KINDS[kind].title} {significant(fd)}" for kind, fd in ends.items())
    caption = (
        f"N = {evaluation.settings.samples}, {evaluation.settings.extractor_names[0]}; FD of {levels}. "
        "±: standard error of N draws. Evaluations of f are those for one draw."
    )
    return Table(_TITLE, header, rows, caption)


def _plot(evaluation: Evaluation, points: Sequence[Point], ends: Mapping[str, float], clock: Clock) -> Plot:
    settings, extractor = evaluation.settings, evaluation.extractor()
    conditions = {
        "samples": str(settings.samples),
        "split": settings.split,
        "extractor": f"{extractor.name} {extractor.sha256}",
        "clock": clock.name,
    }
    curves = tuple(
        Curve(
            "" if proposals is None else f"P = {proposals}",
            tuple(1000 * point.seconds for point in line),
            tuple(point.fd for point in line),
            tuple(point.error for point in line),
            tuple(str(point.steps) for point in line),
        )
        for proposals in dict.fromkeys(point.proposals for point in points)
        for line in [[point for point in points if point.proposals == proposals]]
    )
    levels = {KINDS[kind].title: fd for kind, fd in ends.items()}
    return Plot(_TITLE, "ms for one draw", curves, levels, conditions, log=True, timed=True)


def recommendation(points: Sequence[Point], within: float) -> str:
    """Name the cheapest point whose gap closed is at most `within` below that of the best point."""
    known = [(point.gap, point) for point in points if point.gap is not None]
    if not known:
        return "No point is recommended: the gap closed is not known."
    most, best = max(known, key=lambda pair: pair[0])
    gap, cheapest = min(
        ((gap, point) for gap, point in known if gap >= most - within), key=lambda pair: pair[1].seconds
    )
    near = f"within {100 * within:g} points of the best gap ({_closes(best)})"
    if cheapest is best:
        return f"No cheaper point is {near}, which takes {significant(1000 * best.seconds)} ms for one draw."
    return (
        f"The cheapest point {near} is {cheapest.name}: it closes {percent(gap)} in "
        f"{significant(1000 * cheapest.seconds)} ms for one draw, {percent(cheapest.seconds / best.seconds)} of the "
        f"best one's {significant(1000 * best.seconds)} ms."
    )


def _closes(point: Point) -> str:
    return f"{point.name}: {with_deviation(point.gap, point.gap_error, SHARE)}"
