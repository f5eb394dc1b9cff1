"""Gap closed, with its control and the standard errors of both."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence

from hebm.config.recipes import recipe
from hebm.evaluation.drawn_images import Kind
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.gap import Gap, estimated_gap
from hebm.evaluation.jackknife import BOUND, Estimate, combined
from hebm.evaluation.kinds import DATA, GAUSSIAN, PRIOR, RECONSTRUCTION, SCALED_GAUSSIAN
from hebm.evaluation.metric import SHARE, Measurement, MetricRecipe
from hebm.evaluation.plan import EvaluationPlan
from hebm.report.numbers import percent, significant, with_deviation
from hebm_plugins.metrics.distances import few_images_notes, frechet

_FACTOR, _FURTHER = 1.25, 12
_UNDEFINED = "not defined: reconstructions are not nearer to the data than draws from the Gaussian prior are"
_NOT_MEASURABLE = (
    "not measurable: the distances of the Gaussian prior and of reconstructions differ by no more than noise"
)


@recipe
class GapClosed(MetricRecipe):
    """(FD Gaussian − FD prior) / (FD Gaussian − FD reconstruction): 0 is the backbone's own prior, 1 reconstructions.

    The control is the same number for the Gaussian prior at its best temperature, which may be 1. A chain that only
    inflates u closes this much, so compare a learned prior with the control. There is one number per extractor; only
    the first extractor finds the temperature, on at most `evaluate.temperature_samples` images. Standard errors are
    from a delete-a-group jackknife of the gap, with the temperature taken as given. If the gap does not exceed its
    noise, the number is missing and a note says why.

    Example:
        >>> from hebm import EvaluateSettings
        >>> EvaluateSettings(metrics=(GapClosed(),), samples=10_000).samples
        10000
    """

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the extractors, and return a note for each with few images for its number of features."""
        plan.require(GAUSSIAN, RECONSTRUCTION)
        return few_images_notes(plan)

    def image_counts(self, plan: EvaluationPlan) -> dict[str, int]:
        """Return the number of images of each kind. The search for the control's temperature uses fewer."""
        settings = plan.settings
        searched = len(settings.temperatures) * min(settings.samples, settings.temperature_samples)
        of_kinds = {kind: plan.count(kind) for kind in (DATA, *plan.kinds)}
        return {**of_kinds, SCALED_GAUSSIAN: settings.samples + searched}

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `gap-closed` of the prior and of the control, the underlying `fd`, and the temperature."""
        fd = {kind: evaluation.distances(kind) for kind in evaluation.kinds}
        names = evaluation.settings.extractor_names
        temperature, fd[SCALED_GAUSSIAN] = _control(evaluation, fd[GAUSSIAN])
        found: list[Measurement] = []
        for name in names:
            of_kinds = {kind: distances[name] for kind, distances in fd.items()}
            found += _gaps(names, name, of_kinds, temperature)
            found += [frechet(evaluation, kind, name, distance) for kind, distance in of_kinds.items()]
        return [*found, _temperature(names[0], temperature)]


def _gaps(
    extractors: Sequence[str], extractor: str, fd: Mapping[str, Estimate], temperature: float
) -> tuple[Measurement, Measurement]:
    """Return the gap that the prior closes, with a summary, and the one that the control closes.

    Arguments:
        extractors: all extractors; the first found the temperature.
        extractor: the extractor of these distances.
        fd: Fréchet distance of each kind of images in this extractor.
        temperature: temperature of the control.
    """
    gap = estimated_gap(fd[GAUSSIAN], fd[PRIOR], fd[SCALED_GAUSSIAN], fd[RECONSTRUCTION])
    found_in = "" if extractor == extractors[0] else extractors[0]
    summary = in_words(gap, fd, temperature, found_in)
    if len(extractors) > 1:
        summary = f"In features of {extractor}: {summary}"
    missing = _missing(gap)
    note = f"in {extractor}, at the temperature that is best in {found_in}" if found_in else ""
    return (
        _gap(extractor, PRIOR, gap.prior, missing, summary),
        _gap(extractor, SCALED_GAUSSIAN, gap.control, missing or note),
    )


def _missing(gap: Gap) -> str:
    """Return the reason for a missing number, or ""."""
    if gap.prior is not None:
        return ""
    return _UNDEFINED if gap.size.value <= 0 else _NOT_MEASURABLE


def _gap(extractor: str, kind: str, closed: Estimate | None, note: str, summary: str = "") -> Measurement:
    return Measurement(
        "gap-closed",
        None if closed is None else closed.value,
        "gap closed",
        error=None if closed is None else closed.error,
        unit=SHARE,
        kind=kind,
        better="higher",
        conditions={"extractor": extractor},
        note=note,
        summary=summary,
    )


def _temperature(extractor: str, best: float) -> Measurement:
    conditions = {"extractor": extractor}
    return Measurement("temperature", best, "temperature τ", kind=SCALED_GAUSSIAN, conditions=conditions, detail=True)


def in_words(gap: Gap, fd: Mapping[str, Estimate], temperature: float, found_in: str = "") -> str:
    """Write the result in a few sentences.

    Arguments:
        gap: size of the gap, and the shares that are closed.
        fd: Fréchet distance of each kind of images.
        temperature: temperature of the control.
        found_in: the extractor that found the temperature, if it is a different one.
    """
    shown = {kind: with_deviation(distance.value, distance.error, "") for kind, distance in fd.items()}
    if gap.prior is None or gap.control is None or gap.beyond is None:
        return _without_number(gap, shown)
    at = f"the temperature that is best in {found_in}" if found_in else "its best temperature"
    control = (
        f"The control, in which nothing is learned (the Gaussian prior at {at}, {significant(temperature)}), "
        f"closes {_share(gap.control)}"
    )
    if fd[PRIOR].value == fd[GAUSSIAN].value:
        return f"This prior is the backbone’s own Gaussian prior, which closes nothing of the gap. {control}."
    verb = "closes" if gap.prior.value >= 0 else "does not close the gap but widens it:"
    return (
        f"The learned prior {verb} {_share(gap.prior)} of the gap between the backbone’s own Gaussian prior and "
        f"reconstructions{_interval(gap.prior)}: its Fréchet distance to the data is {shown[PRIOR]}, that of the "
        f"Gaussian prior {shown[GAUSSIAN]}, that of reconstructions {shown[RECONSTRUCTION]}. {control}; "
        f"{_beyond(gap.beyond)}."
    )


def _without_number(gap: Gap, shown: Mapping[str, str]) -> str:
    distances = f"(Fréchet distances {shown[RECONSTRUCTION]} and {shown[GAUSSIAN]})"
    if gap.size.value <= 0:
        return (
            "The gap closed is not defined here: reconstructions are not nearer to the data than draws from the "
            f"Gaussian prior are {distances}. Train the backbone better or longer."
        )
    return (
        "The gap closed is not measurable here: reconstructions are nearer to the data than draws from the Gaussian "
        f"prior by no more than noise {distances}. Measure more images (evaluate.samples), or use a backbone whose "
        "Gaussian prior misses more."
    )


def _share(closed: Estimate) -> str:
    return with_deviation(closed.value, closed.error, SHARE)


def _interval(closed: Estimate) -> str:
    if closed.error is None:
        return ""
    low, high = (percent(closed.value + side * BOUND * closed.error) for side in (-1, 1))
    return f" (95 % interval {low} to {high})"


def _beyond(beyond: Estimate) -> str:
    error = "" if beyond.error is None else f" ± {100 * beyond.error:.1f}"
    points = f"{100 * abs(beyond.value):.1f}{error} points"
    if beyond.value <= 0:
        return f"the learned prior stays {points} below it"
    noise = ", which is no more than noise" if beyond.is_noise else ""
    return f"the learned prior adds {points} to that{noise}"


def _control(evaluation: Evaluation, unscaled: dict[str, Estimate]) -> tuple[float, dict[str, Estimate]]:
    """Return the temperature of the control, and its FD in each extractor.

    The search uses few images. The temperatures that may be best, and τ = 1, are then compared on all images.

    Arguments:
        evaluation: draws T(τ u) and measures them.
        unscaled: the FD at τ = 1 in each extractor.
    """
    settings = evaluation.settings
    few = evaluation.measured_on(min(settings.samples, settings.temperature_samples))
    found, first = {1.0: unscaled}, settings.extractor_names[0]
    tried = _tried_temperatures(few)
    wanted = [min(tried, key=tried.__getitem__)] if few is evaluation else _candidates(few, tried)
    for temperature in wanted:
        if temperature != 1:
            found[temperature] = evaluation.distances((GAUSSIAN, temperature))
            evaluation.forget((GAUSSIAN, temperature))
    best = min(found, key=lambda temperature: found[temperature][first].value)
    return best, found[best]


def _candidates(few: Evaluation, tried: Mapping[float, float]) -> list[float]:
    """Return the temperature with the smallest FD, and its neighbours unless they are significantly worse.

    Two temperatures share their noise and the data, so the jackknife of the difference of their FD is precise.

    Arguments:
        few: the evaluation that the search used.
        tried: the FD at each temperature.
    """
    order, best = sorted(tried), min(tried, key=tried.__getitem__)
    place = order.index(best)
    near = [*order[max(place - 1, 0) : place], *order[place + 1 : place + 2]]
    rivals = [temperature for temperature in near if _may_be_better(few, temperature, best)]
    for temperature in (best, *near):
        few.forget(_scaled(temperature))
    return [best, *rivals]


def _may_be_better(few: Evaluation, temperature: float, best: float) -> bool:
    """Return whether the FD at a temperature exceeds that at the best one by no more than noise."""
    return combined(operator.sub, few.estimate(_scaled(temperature)), few.estimate(_scaled(best))).is_noise


def _scaled(temperature: float) -> Kind:
    return GAUSSIAN if temperature == 1 else (GAUSSIAN, temperature)


def _tried_temperatures(evaluation: Evaluation) -> dict[float, float]:
    """Return the FD in the first extractor at each τ of the settings' grid, and at τ = 1.

    The grid is extended while the best τ is at an end. The images of the best τ are kept.
    """
    found = {1.0: evaluation.distance(GAUSSIAN)} if evaluation.settings.temperatures else {1.0: math.nan}
    for temperature in evaluation.settings.temperatures:
        _try(evaluation, found, temperature)
    for _ in range(_FURTHER if len(found) > 1 else 0):
        best = min(found, key=found.__getitem__)
        if best not in (min(found), max(found)):
            break
        _try(evaluation, found, best * _FACTOR if best == max(found) else best / _FACTOR)
    return found


def _try(evaluation: Evaluation, found: dict[float, float], temperature: float) -> None:
    """Add the FD at a temperature to `found`, and keep only the images of the best temperature."""
    if temperature in found:
        return
    before = min(found, key=found.__getitem__)
    found[temperature] = evaluation.distance((GAUSSIAN, temperature))
    evaluation.forget((GAUSSIAN, before if found[temperature] < found[before] else temperature))
