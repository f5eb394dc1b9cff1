"""`metrics.json` in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from hebm.report.numbers import percent, shown, significant

COLUMNS = {
    "data": "data",
    "gaussian": "Gaussian prior",
    "scaled_gaussian": "Gaussian prior, best temperature",
    "prior": "learned prior",
    "reconstruction": "reconstruction",
}
"""Kinds of images, as a metric's entries name them, in the order of the table."""

CONDITIONS = (
    *("extractor", "extractors", "n", "n_reference", "split", "decode", "chain_steps", "milestone"),
    *("range", "seed", "versions", "seconds"),
)
"""Entries that are no results, but what results must be read with."""

_LABELS = {"fd": "Fréchet distance", "fid": "FID", "kid": "KID", "inception_score": "Inception score"}
_TEMPERATURE = "scaled_gaussian_temperature"


@attrs.frozen
class Table:
    """Cells as text: a header, then rows that begin with their name."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def by_kind(metrics: Mapping[str, Any]) -> Table:
    """A row for each metric that has a figure per kind of images."""
    found = {name: entry for name, entry in metrics.items() if _is_by_kind(name, entry)}
    kinds = [kind for kind in COLUMNS if any(kind in entry for entry in found.values())]
    rows = [
        (_LABELS.get(name, name.replace("_", " ")), *(figure(entry.get(kind)) for kind in kinds))
        for name, entry in found.items()
    ]
    return Table(("", *(COLUMNS[kind] for kind in kinds)), tuple(rows))


def others(metrics: Mapping[str, Any]) -> Table:
    """All other results, one figure a row."""
    rows: list[tuple[str, str]] = []
    for name, entry in metrics.items():
        if name in CONDITIONS or name.startswith("gap_closed"):
            continue
        left = {k: v for k, v in entry.items() if k not in COLUMNS} if _is_by_kind(name, entry) else entry
        rows += [(path.replace("_", " "), shown(value)) for path, value in leaves(left, _LABELS.get(name, name), " · ")]
    return Table(("", ""), tuple(rows))


def conditions_in_short(metrics: Mapping[str, Any]) -> str:
    """What must stand beside every figure."""
    used = metrics.get("extractor")
    name = used.get("name") if isinstance(used, Mapping) else used
    return (
        f"N = {shown(metrics.get('n'))}, against {shown(metrics.get('n_reference'))} images of split "
        f"{metrics.get('split')}, extractor {name}, seed {metrics.get('seed')}."
    )


def conditions(metrics: Mapping[str, Any]) -> str:
    """What the figures must be read with, on one line."""
    texts = [f"N = {shown(metrics.get('n'))} draws from each prior"]
    texts.append(f"reference: {shown(metrics.get('n_reference'))} images of split {metrics.get('split')}")
    texts.append(f"extractor: {extractor(metrics)}")
    texts.append(f"images are {'E[x|z]' if metrics.get('decode') == 'mean' else 'draws from p(x|z)'}")
    texts.append(f"range {metrics['range']}" if "range" in metrics else "")
    texts.append(f"seed {metrics.get('seed')}")
    texts.append(f"training and evaluation took {significant(metrics.get('seconds'))} s")
    return "; ".join(text for text in texts if text) + "."


def extractor(metrics: Mapping[str, Any]) -> str:
    """Which features distances are in: the name, and the beginning of the weights' hash."""
    used = metrics.get("extractor")
    if not isinstance(used, Mapping):
        return shown(used)
    details = [f"sha256 {str(used['sha256'])[:12]}…"] if used.get("sha256") else []
    if isinstance(used.get("accuracy"), (int, float)):
        details.append(f"test accuracy {percent(used['accuracy'])}")
    return f"{used.get('name')} ({', '.join(details)})" if details else str(used.get("name"))


def in_words(metrics: Mapping[str, Any]) -> list[str]:
    """The result in a few sentences."""
    fd, gap, control = metrics.get("fd") or {}, metrics.get("gap_closed"), metrics.get("gap_closed_scaled_gaussian")
    if "gap_closed" not in metrics:
        return ["The gap closed was not measured."]
    if gap is None:
        return [
            "The gap closed is not defined here: reconstructions are no nearer to the data than draws from the "
            f"Gaussian prior are (Fréchet distances {significant(fd.get('reconstruction'))} and "
            f"{significant(fd.get('gaussian'))}). The backbone has to be trained better or longer."
        ]
    verb = "closes" if gap >= 0 else "does not close the gap but widens it:"
    sentences = [
        f"The learned prior {verb} {percent(gap)} of the gap between the backbone’s own Gaussian prior and "
        f"reconstructions: its Fréchet distance to the data is {significant(fd.get('prior'))}, that of the Gaussian "
        f"prior {significant(fd.get('gaussian'))}, that of reconstructions {significant(fd.get('reconstruction'))}."
    ]
    if control is not None:
        sentences.append(
            f"The control, in which nothing is learned (the Gaussian prior at its best temperature, "
            f"{significant(fd.get(_TEMPERATURE))}), closes {percent(control)}; {_beyond(gap - control)}."
        )
    return sentences


def _beyond(difference: float) -> str:
    points = f"{100 * abs(difference):.1f} points"
    return (
        f"the learned prior adds {points} to that" if difference > 0 else f"the learned prior stays {points} below it"
    )


def figure(entry: Any) -> str:
    """A number, or a mean with its standard deviation."""
    if isinstance(entry, Mapping) and "mean" in entry:
        return f"{significant(entry['mean'])} ± {significant(entry.get('std'))}"
    return shown(entry) if not isinstance(entry, Mapping) else "–"


def _is_by_kind(name: str, entry: Any) -> bool:
    return name not in CONDITIONS and isinstance(entry, Mapping) and bool(COLUMNS.keys() & entry.keys())


def leaves(entry: Any, path: str, between: str) -> Iterator[tuple[str, Any]]:
    """The values of nested entries, each with its path."""
    if isinstance(entry, Mapping):
        for key, value in entry.items():
            yield from leaves(value, f"{path}{between}{key}", between)
    else:
        yield path, entry
