"""Group the measurements of a run for pages, terminals and comparisons, regardless of their metrics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from hebm.evaluation.kinds import DATA, KINDS, PRIOR
from hebm.evaluation.metric import Measurement, Scalar
from hebm.evaluation.metrics_file import UNFINISHED, Results
from hebm.report.numbers import ARROWS, measured, percent, shown, significant, unit_of

K = TypeVar("K")
WITH = "measured with"
"""Heading of the column of conditions, which is the last one of a table."""


@attrs.frozen
class Table:
    """A table of text. Each row starts with its name."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def spans(self) -> list[int]:
        """Return how many rows the last cell of each row spans. Equal cells are merged; covered ones get 0."""
        found: list[int] = []
        for _, same in itertools.groupby(self.rows, key=lambda row: row[-1]):
            covered = len(list(same))
            found += [covered, *[0] * (covered - 1)]
        return found


@attrs.frozen
class Group:
    """The measurements of one name in their metric's order. They differ in kind, part and extractor."""

    measurements: tuple[Measurement, ...]

    @property
    def first(self) -> Measurement:
        """The measurement whose title, unit and direction represent the group."""
        return self.measurements[0]

    @property
    def heading(self) -> str:
        """The title, an arrow for the better direction, and the unit."""
        unit = unit_of(self.first)
        return " ".join(filter(None, (self.first.title, ARROWS[self.first.better], f"({unit})" if unit else "")))

    @property
    def main(self) -> Measurement:
        """The measurement of the learned prior, or else the first one."""
        return next((found for found in self.measurements if found.kind == PRIOR), self.first)

    def by_extractor(self) -> list[Group]:
        """Split the group into the measurements of each extractor, in the metric's order."""
        return list(_grouped(self.measurements, lambda found: found.extractor).values())

    def by_kind(self) -> dict[str | None, Group]:
        """Group the measurements by kind of images."""
        return _grouped(self.measurements, lambda found: found.kind)


def _grouped(measurements: Iterable[Measurement], key: Callable[[Measurement], K]) -> dict[K, Group]:
    found: dict[K, list[Measurement]] = {}
    for measurement in measurements:
        found.setdefault(key(measurement), []).append(measurement)
    return {value: Group(tuple(same)) for value, same in found.items()}


def label(found: Measurement, among: Iterable[Measurement]) -> str:
    """Return the label that distinguishes a measurement from others of its name and kind: part and extractor.

    The extractor is omitted if all share it.

    Arguments:
        found: the measurement.
        among: the measurements next to which it is shown.
    """
    several = len({other.extractor for other in among if other.name == found.name}) > 1
    return ", ".join(filter(None, (found.part, found.extractor if several else "")))


def head(found: Measurement, among: Iterable[Measurement]) -> str:
    """Return a column heading for a measurement: the title, then kind, part and extractor.

    Arguments:
        found: the measurement.
        among: the measurements next to which it is shown.
    """
    kind = KINDS[found.kind].title if found.kind else ""
    return "\n".join(filter(None, (Group((found,)).heading, ", ".join(filter(None, (kind, label(found, among)))))))


def groups(results: Results, detail: bool | None = None) -> list[Group]:
    """Group the measurements by name. Groups with a summary come first, the others in the metrics' order.

    Arguments:
        results: the results of a run.
        detail: True for details only, False for all others, None for both.
    """
    chosen = [found for found in results.measurements if detail is None or found.detail == detail]
    found = _grouped(chosen, lambda measurement: measurement.name).values()
    return sorted(found, key=lambda group: not any(m.summary for m in group.measurements))


# ---------------------------------------------------------------- the page


@attrs.frozen
class Card:
    """A highlighted result at the top of the page.

    Arguments:
        number: number of the main measurement.
        title: its title.
        learned: whether the number describes the learned prior.
        others: (kind, number) of the other kinds of images.
    """

    number: str
    title: str
    learned: bool
    others: tuple[tuple[str, str], ...]


def cards(results: Results) -> list[Card]:
    """Return cards for the results that describe the learned prior or have a summary, one per extractor."""
    mains = [(group, group.main) for group in _of_one_extractor(results) if not group.main.part]
    chosen = [group for group, main in mains if main.summary or (main.kind == PRIOR and main.found)]
    return [_card(group, label(group.main, results.measurements)) for group in chosen]


def _of_one_extractor(results: Results) -> list[Group]:
    """Return the groups without details, each split by extractor."""
    return [part for group in groups(results, detail=False) for part in group.by_extractor()]


def _card(group: Group, measured_in: str) -> Card:
    main = group.main
    others = tuple(
        (_kind_title(found.kind), measured(found))
        for found in group.measurements
        if found.kind != main.kind and found.kind != DATA
    )
    return Card(measured(main), ", ".join(filter(None, (group.heading, measured_in))), main.kind == PRIOR, others)


def _kind_title(kind: str | None) -> str:
    return "" if kind is None else KINDS[kind].title


def by_kind(results: Results, detail: bool) -> Table:
    """Return one row per result about images, with one column per kind of images.

    Arguments:
        results: the results of a run.
        detail: True for details only, False for all others.
    """
    rows = [row for row in _rows(results, detail) if row.first.kind is not None]
    kinds = [kind for kind in KINDS if any(kind in row.by_kind() for row in rows)]
    header = ("", *(KINDS[kind].title for kind in kinds), WITH)
    return _without_empty_end(header, [(_name(row), *_cells(row, kinds), measured_with(results, row)) for row in rows])


def others(results: Results, detail: bool) -> Table:
    """Return one row per result that does not describe a set of images. Arguments as for `by_kind`."""
    rows = [row for row in _rows(results, detail) if row.first.kind is None]
    return _without_empty_end(
        ("", "", WITH), [(_name(row), measured(row.first), measured_with(results, row)) for row in rows]
    )


def _rows(results: Results, detail: bool) -> list[Group]:
    """Return one group per name, part and extractor. Measurements with and without a kind are separate groups."""
    found: list[Group] = []
    for group in groups(results, detail):
        found += _grouped(group.measurements, lambda m: (m.part, m.extractor, m.kind is None)).values()
    return found


def _name(row: Group) -> str:
    return f"{row.heading}, {row.first.part}" if row.first.part else row.heading


def _cells(row: Group, kinds: Sequence[str]) -> list[str]:
    found = row.by_kind()
    return [measured(found[kind].first) if kind in found else "–" for kind in kinds]


def _without_empty_end(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return the table without its last column if that is empty."""
    end = None if any(row[-1] for row in rows) else -1
    return Table(tuple(header[:end]), tuple(tuple(row[:end]) for row in rows))


def summaries(results: Results) -> list[str]:
    """Return the summaries that metrics wrote."""
    return [found.summary for found in results.measurements if found.summary]


def notes(results: Results) -> list[tuple[str, str]]:
    """Return (title, note) of all measurements with a note. Kinds of images with the same note share one entry."""
    noted = [found for found in results.measurements if found.note]
    shared = _grouped(noted, lambda found: (found.title, found.part, found.note))
    return [(_title(same), same.first.note) for same in shared.values()]


def _title(same: Group) -> str:
    kinds = [_kind_title(kind) for kind in same.by_kind()]
    return ", ".join(filter(None, (same.first.title, kinds[0] if len(kinds) == 1 else "", same.first.part)))


def notes_by_kind(results: Results) -> dict[str, str]:
    """Return the note for the images of each kind: the kind's value in the result that covers most kinds."""
    found = [group for group in _of_one_extractor(results) if not group.first.part]
    most = max(found, key=lambda group: len(group.by_kind().keys() & KINDS.keys()), default=None)
    measurements = () if most is None else most.measurements
    return {m.kind: f"{m.title} {measured(m)}" for m in measurements if m.kind is not None and m.found}


# ---------------------------------------------------------------- conditions


def own_conditions(results: Results, measurement: Measurement) -> dict[str, Scalar]:
    """Return a measurement's own conditions, without the extractor if the evaluation used only one."""
    found = dict(measurement.conditions)
    if len(results.extractors) == 1:
        found.pop("extractor", None)
    return found


def measured_with(results: Results, group: Group) -> str:
    """Format the conditions of a group's measurements without duplicates."""
    words = dict.fromkeys(in_words(own_conditions(results, found)) for found in group.measurements)
    return "; ".join(filter(None, words))


def in_words(conditions: Mapping[str, Scalar]) -> str:
    """Format conditions as "k 100, split test"."""
    texts = {key: f"{value:g}" if isinstance(value, float) else shown(value) for key, value in conditions.items()}
    return ", ".join(f"{key.replace('_', ' ')} {text}" for key, text in texts.items())


def conditions_in_short(results: Results) -> str:
    """Format the conditions that belong to every number."""
    c = results.conditions
    return (
        f"N = {shown(c.get('n'))}, against {shown(c.get('n_reference'))} images of split {c.get('split')}, "
        f"extractor {extractor_names(results)}, seed {c.get('seed')}."
        + (f" Training was unfinished: {c[UNFINISHED]}." if UNFINISHED in c else "")
    )


def extractor_names(results: Results) -> str:
    """Return the names of the extractors in use."""
    return ", ".join(str(used.get("name")) for used in results.extractors.values()) or "none"


def conditions(results: Results) -> str:
    """Format all conditions of the results on one line."""
    c = results.conditions
    texts = [f"N = {shown(c.get('n'))} draws from each prior"]
    texts.append(f"reference: {shown(c.get('n_reference'))} images of split {c.get('split')}")
    texts += [f"extractor: {extractor(used)}" for used in results.extractors.values()]
    texts.append(f"images are {'E[x|z]' if c.get('decode') == 'mean' else 'draws from p(x|z)'}")
    texts.append(f"range {c['range']}" if "range" in c else "")
    texts.append(f"seed {c.get('seed')}")
    texts.append(f"training and evaluation took {significant(results.seconds)} s")
    return "; ".join(text for text in texts if text) + "."


def extractor(used: Mapping[str, Any]) -> str:
    """Format an extractor: its name, and the beginning of its weights' hash."""
    details = [f"sha256 {str(used['sha256'])[:12]}…"] if used.get("sha256") else []
    if isinstance(used.get("accuracy"), (int, float)):
        details.append(f"test accuracy {percent(used['accuracy'])}")
    return f"{used.get('name')} ({', '.join(details)})" if details else str(used.get("name"))
