"""Gap closed, with its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hebm.config.recipes import recipe
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.gap import gap_closed
from hebm.evaluation.kinds import GAUSSIAN, PRIOR, RECONSTRUCTION, SCALED_GAUSSIAN
from hebm.evaluation.metric import SHARE, Measurement, MetricRecipe
from hebm.evaluation.plan import EvaluationPlan
from hebm.report.numbers import percent, significant
from hebm_plugins.metrics.distances import MEASURED, few_images_notes, frechet

_FACTOR, _FURTHER = 1.25, 12
_UNDEFINED = "not defined: reconstructions are no nearer to the data than draws from the Gaussian prior are"


@recipe
class GapClosed(MetricRecipe):
    """(FD Gaussian − FD prior) / (FD Gaussian − FD reconstruction): 0 is the backbone's own prior, 1 reconstructions.

    The control is the same number for the Gaussian at its best temperature, 1 included: a chain that only inflates u
    closes that much, so a learned prior counts for what it adds to it. With several extractors there is one number for
    each, and the first alone finds the temperature.
    """

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the extractors, and say where images are few for the number of features."""
        return few_images_notes(plan)

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `gap-closed` of the prior and of the control, the `fd` that it follows from, and the temperature."""
        fd = {kind: evaluation.distances(kind) for kind in MEASURED}
        names = evaluation.settings.extractor_names
        temperature = best_temperature(evaluation, fd[GAUSSIAN][names[0]])
        fd[SCALED_GAUSSIAN] = evaluation.distances((GAUSSIAN, temperature)) if temperature != 1 else fd[GAUSSIAN]
        evaluation.forget((GAUSSIAN, temperature))
        found: list[Measurement] = []
        for name in names:
            of_kinds = {kind: distances[name] for kind, distances in fd.items()}
            found += _gaps(names, name, of_kinds, temperature)
            found += [frechet(evaluation, kind, name, distance) for kind, distance in of_kinds.items()]
        return [*found, _temperature(names[0], temperature)]


def _gaps(
    extractors: Sequence[str], extractor: str, fd: Mapping[str, float], temperature: float
) -> tuple[Measurement, Measurement]:
    """Return the gap that the prior closes, with a summary, and the one that the control closes.

    Arguments:
        extractors: all of them; the first found the temperature.
        extractor: the one in question.
        fd: Fréchet distance of each kind of images in this extractor.
        temperature: of the control.
    """
    prior, control = (gap_closed(fd[GAUSSIAN], fd[kind], fd[RECONSTRUCTION]) for kind in (PRIOR, SCALED_GAUSSIAN))
    found_in = "" if extractor == extractors[0] else extractors[0]
    summary = in_words(prior, control, fd, temperature, found_in)
    if len(extractors) > 1:
        summary = f"In features of {extractor}: {summary}"
    note = f"in {extractor}, at the temperature that is best in {found_in}" if found_in else ""
    return _gap(extractor, PRIOR, prior, summary), _gap(extractor, SCALED_GAUSSIAN, control, note=note)


def _gap(extractor: str, kind: str, closed: float | None, summary: str = "", note: str = "") -> Measurement:
    return Measurement(
        "gap-closed",
        closed,
        "gap closed",
        unit=SHARE,
        kind=kind,
        better="higher",
        conditions={"extractor": extractor},
        note=_UNDEFINED if closed is None else note,
        summary=summary,
    )


def _temperature(extractor: str, best: float) -> Measurement:
    conditions = {"extractor": extractor}
    return Measurement("temperature", best, "temperature τ", kind=SCALED_GAUSSIAN, conditions=conditions, detail=True)


def in_words(
    closed: float | None, control: float | None, fd: Mapping[str, float], temperature: float, found_in: str = ""
) -> str:
    """Write the result in a few sentences.

    Arguments:
        closed: the share of the gap that the learned prior closes; None if it is not defined.
        control: the share that the control closes.
        fd: Fréchet distance of each kind of images.
        temperature: of the control.
        found_in: the extractor that found the temperature, if it is another one.
    """
    shown = {kind: significant(distance) for kind, distance in fd.items()}
    if closed is None or control is None:
        return (
            "The gap closed is not defined here: reconstructions are no nearer to the data than draws from the "
            f"Gaussian prior are (Fréchet distances {shown[RECONSTRUCTION]} and {shown[GAUSSIAN]}). Train the backbone "
            "better or longer."
        )
    at = f"the temperature that is best in {found_in}" if found_in else "its best temperature"
    verb = "closes" if closed >= 0 else "does not close the gap but widens it:"
    return (
        f"The learned prior {verb} {percent(closed)} of the gap between the backbone’s own Gaussian prior and "
        f"reconstructions: its Fréchet distance to the data is {shown[PRIOR]}, that of the Gaussian prior "
        f"{shown[GAUSSIAN]}, that of reconstructions {shown[RECONSTRUCTION]}. The control, in which nothing is learned "
        f"(the Gaussian prior at {at}, {significant(temperature)}), closes {percent(control)}; "
        f"{_beyond(closed - control)}."
    )


def _beyond(difference: float) -> str:
    points = f"{100 * abs(difference):.1f} points"
    return (
        f"the learned prior adds {points} to that" if difference > 0 else f"the learned prior stays {points} below it"
    )


def best_temperature(evaluation: Evaluation, unscaled: float) -> float:
    """Return the τ of least FD in the first extractor: on the settings' grid, or beyond while the best is at an end.

    The images of that temperature are kept for the other extractors.

    Arguments:
        evaluation: draws T(τ u) and measures them.
        unscaled: the FD at τ = 1.
    """
    found = {1.0: unscaled}
    for temperature in evaluation.settings.temperatures:
        _try(evaluation, found, temperature)
    for _ in range(_FURTHER if len(found) > 1 else 0):
        best = min(found, key=found.__getitem__)
        if best not in (min(found), max(found)):
            break
        _try(evaluation, found, best * _FACTOR if best == max(found) else best / _FACTOR)
    return min(found, key=found.__getitem__)


def _try(evaluation: Evaluation, found: dict[float, float], temperature: float) -> None:
    """Add the FD at a temperature to those found, and keep no images but those of the best."""
    if temperature in found:
        return
    before = min(found, key=found.__getitem__)
    found[temperature] = evaluation.distance((GAUSSIAN, temperature))
    evaluation.forget((GAUSSIAN, before if found[temperature] < found[before] else temperature))
