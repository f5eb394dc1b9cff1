"""Check whether a learned prior beats the control, in which nothing is learned."""

from __future__ import annotations

from hebm.evaluation.kinds import GAUSSIAN, KINDS, PRIOR, SCALED_GAUSSIAN
from hebm.evaluation.metric import Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report.metric_table import Group, groups, label
from hebm.report.numbers import measured


def below_control(results: Results) -> list[str]:
    """Return one line for each extractor in which the learned prior does not beat the control.

    The comparison uses the first result that both have. A run whose prior is the Gaussian one gets no line.
    """
    mains = [group for group in groups(results, detail=False) if _pairs(group)]
    pairs = _pairs(mains[0]) if mains else []
    return [
        _sentence(prior, control, mains[0])
        for prior, control in pairs
        if not _beats(prior, control) and _learned(results, prior.extractor)
    ]


def _pairs(group: Group) -> list[tuple[Measurement, Measurement]]:
    """Return the numbers of the learned prior and the control in each extractor that has both."""
    if group.first.better is None:
        return []
    found = [{m.kind: m for m in part.measurements if m.found and not m.part} for part in group.by_extractor()]
    return [(of[PRIOR], of[SCALED_GAUSSIAN]) for of in found if PRIOR in of and SCALED_GAUSSIAN in of]


def _beats(prior: Measurement, control: Measurement) -> bool:
    return prior.value > control.value if prior.better == "higher" else prior.value < control.value


def _learned(results: Results, extractor: str) -> bool:
    """Return whether any number of the prior differs from the Gaussian prior's. A root has identical draws."""
    for own in results.measurements:
        gaussian = results.get(own.name, GAUSSIAN, own.part, extractor)
        if own.kind == PRIOR and own.extractor == extractor and own.found and gaussian is not None and gaussian.found:
            return own.value != gaussian.value
    return True


def _sentence(prior: Measurement, control: Measurement, group: Group) -> str:
    extractor = label(prior, group.measurements)
    where = f" in features of {extractor}" if extractor else ""
    title = KINDS[SCALED_GAUSSIAN].title
    return (
        f"The learned prior does not beat the control{where}: {prior.title} {measured(prior)}, against "
        f"{measured(control)} of the {title}, in which nothing is learned."
    )
