"""Gap closed, with its control."""

from __future__ import annotations

from collections.abc import Mapping

from hebm.config.recipes import recipe
from hebm.data.images import Images
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.gap import gap_closed
from hebm.evaluation.kinds import GAUSSIAN, PRIOR, RECONSTRUCTION, SCALED_GAUSSIAN
from hebm.evaluation.metric import SHARE, Measurement, MetricRecipe
from hebm.evaluation.settings import EvaluateSettings
from hebm.report.numbers import percent, significant
from hebm_plugins.metrics.distances import MEASURED, frechet

_FACTOR, _FURTHER = 1.25, 12
_UNDEFINED = "not defined: reconstructions are no nearer to the data than draws from the Gaussian prior are"


@recipe
class GapClosed(MetricRecipe):
    """(FD Gaussian − FD prior) / (FD Gaussian − FD reconstruction): 0 is the backbone's own prior, 1 reconstructions.

    The control is the same number for the Gaussian at its best temperature, 1 included: a chain that only inflates u
    closes that much, so a learned prior counts for what it adds to it.
    """

    def check(self, images: Mapping[str, Images], settings: EvaluateSettings) -> None:
        """Raise `ConfigError` where the extractor is not suited to the images."""
        settings.extractor.check(images["train"])

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `gap-closed` of the prior and of the control, the `fd` that it follows from, and the temperature."""
        fd = {kind: evaluation.distance(kind) for kind in MEASURED}
        scaled = scaled_gaussian(evaluation, fd[GAUSSIAN])
        best = min(scaled, key=scaled.__getitem__)
        fd[SCALED_GAUSSIAN] = scaled[best]
        closed = {kind: gap_closed(fd[GAUSSIAN], fd[kind], fd[RECONSTRUCTION]) for kind in (PRIOR, SCALED_GAUSSIAN)}
        summary = in_words(closed[PRIOR], closed[SCALED_GAUSSIAN], fd, best)
        return [
            _gap(evaluation, PRIOR, closed[PRIOR], summary),
            _gap(evaluation, SCALED_GAUSSIAN, closed[SCALED_GAUSSIAN]),
            *(frechet(evaluation, kind, distance) for kind, distance in fd.items()),
            _temperature(evaluation, best),
        ]


def _gap(evaluation: Evaluation, kind: str, closed: float | None, summary: str = "") -> Measurement:
    return Measurement(
        "gap-closed",
        closed,
        "gap closed",
        unit=SHARE,
        kind=kind,
        better="higher",
        conditions={"extractor": evaluation.extractor().name},
        note=_UNDEFINED if closed is None else "",
        summary=summary,
    )


def _temperature(evaluation: Evaluation, best: float) -> Measurement:
    conditions = {"extractor": evaluation.extractor().name}
    return Measurement("temperature", best, "temperature τ", kind=SCALED_GAUSSIAN, conditions=conditions, detail=True)


def in_words(closed: float | None, control: float | None, fd: Mapping[str, float], temperature: float) -> str:
    """Write the result in a few sentences.

    Arguments:
        closed: the share of the gap that the learned prior closes; None if it is not defined.
        control: the share that the control closes.
        fd: Fréchet distance of each kind of images.
        temperature: of the control.
    """
    shown = {kind: significant(distance) for kind, distance in fd.items()}
    if closed is None or control is None:
        return (
            "The gap closed is not defined here: reconstructions are no nearer to the data than draws from the "
            f"Gaussian prior are (Fréchet distances {shown[RECONSTRUCTION]} and {shown[GAUSSIAN]}). Train the backbone "
            "better or longer."
        )
    verb = "closes" if closed >= 0 else "does not close the gap but widens it:"
    return (
        f"The learned prior {verb} {percent(closed)} of the gap between the backbone’s own Gaussian prior and "
        f"reconstructions: its Fréchet distance to the data is {shown[PRIOR]}, that of the Gaussian prior "
        f"{shown[GAUSSIAN]}, that of reconstructions {shown[RECONSTRUCTION]}. The control, in which nothing is learned "
        f"(the Gaussian prior at its best temperature, {significant(temperature)}), closes {percent(control)}; "
        f"{_beyond(closed - control)}."
    )


def _beyond(difference: float) -> str:
    points = f"{100 * abs(difference):.1f} points"
    return (
        f"the learned prior adds {points} to that" if difference > 0 else f"the learned prior stays {points} below it"
    )


def scaled_gaussian(evaluation: Evaluation, unscaled: float) -> dict[float, float]:
    """Return FD by temperature: the settings' grid, extended beyond its ends while the best one is at an end.

    Arguments:
        evaluation: draws T(τ u) and measures them.
        unscaled: the FD at τ = 1.
    """
    grid = (t for t in evaluation.settings.temperatures if t != 1)
    found = {1.0: unscaled} | {t: evaluation.distance((GAUSSIAN, t)) for t in grid}
    for _ in range(_FURTHER if len(found) > 1 else 0):
        best = min(found, key=found.__getitem__)
        if best not in (min(found), max(found)):
            break
        further = best * _FACTOR if best == max(found) else best / _FACTOR
        found[further] = evaluation.distance((GAUSSIAN, further))
    return found
