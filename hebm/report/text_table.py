"""Format the results of a run as text."""

from __future__ import annotations

from hebm.evaluation.kinds import KINDS
from hebm.evaluation.metric import Measurement
from hebm.evaluation.metrics_file import UNFINISHED, Results
from hebm.printable import printable
from hebm.report.control import below_control
from hebm.report.metric_table import Group, extractor_names, groups, label, measured_with
from hebm.report.numbers import measured, significant, unit_of
from hebm.store.run_folder import RunFolder

_DIGITS = 4
_WIDTH = 50
_BETTER = {None: "", "lower": " (lower is better)", "higher": " (higher is better)"}


def metrics_table(name: str, results: Results, folder: RunFolder | None = None) -> str:
    """Return all measurements and their conditions as text.

    If the learned prior does not beat its control, the first line says so.

    Arguments:
        name: name of the run or of the images.
        results: the results.
        folder: the run folder, for the path of the page; None for given images.
    """
    lines = [
        *below_control(results),
        *_measurements(results),
        *_failures(results, folder),
        *_seconds(results),
        _conditions(results),
        *([] if folder is None else [f"report: {folder.report}"]),
    ]
    return printable(name) + "".join(f"\n  {printable(line)}" for line in lines)


def _measurements(results: Results) -> list[str]:
    """Return the lines of each group, with a line of conditions after groups that share them."""
    lines: list[str] = []
    every = groups(results)
    for i, group in enumerate(every):
        lines += _group(group)
        words = measured_with(results, group)
        following = measured_with(results, every[i + 1]) if i + 1 < len(every) else ""
        if words and words != following:
            lines.append(f"  ({words})")
    return lines


def _failures(results: Results, folder: RunFolder | None) -> list[str]:
    """Return lines for the failed metrics, with reasons and the command that tries again."""
    lines: list[str] = []
    for failed in results.failures:
        first, *more = failed.reason.splitlines() or [""]
        lines += [f"{failed.metric} failed: {first}", *(f"  {line}" for line in more)]
        if folder is not None:
            lines.append(f"  try again: {failed.again} (traceback: {folder.failures_log})")
    return lines


def _group(group: Group) -> list[str]:
    heading = group.first.title + _BETTER[group.first.better]
    of_kinds = group.by_kind()
    notes = dict.fromkeys(found.note for found in group.measurements if found.note)
    if set(of_kinds) == {None}:
        lines = [_line(heading, group, group)]
    else:
        titles = {kind: "all" if kind is None else KINDS[kind].title for kind in of_kinds}
        lines = [heading, *(_line(f"  {titles[kind]}", same, group) for kind, same in of_kinds.items())]
    return [*lines, *(f"  note: {note}" for note in notes)]


def _line(heading: str, shown: Group, group: Group) -> str:
    """Return one line with a heading and the number of each part and extractor.

    Arguments:
        heading: heading of the line.
        shown: the measurements of the line.
        group: all measurements of the same name.
    """
    numbers = ", ".join(_number(found, label(found, group.measurements)) for found in shown.measurements)
    return f"{heading:<{_WIDTH}} {numbers} {unit_of(group.first)}".rstrip()


def _number(found: Measurement, which: str) -> str:
    return f"{which}: {measured(found, _DIGITS)}" if which else measured(found, _DIGITS)


def _seconds(results: Results) -> list[str]:
    seconds = {"seconds": results.seconds, "seconds training": results.seconds_training}
    return [f"{name:<{_WIDTH}} {significant(value, _DIGITS)}" for name, value in seconds.items() if value is not None]


def _conditions(results: Results) -> str:
    c = results.conditions
    unfinished = f", unfinished: {c[UNFINISHED]}" if UNFINISHED in c else ""
    n, split = c.get("n_reference"), c.get("split")
    reference = split if n is None else f"{n} {split} images"
    return (
        f"(n {c.get('n')}, reference {reference}, seed {c.get('seed')}, "
        f"extractor {extractor_names(results)}{unfinished})"
    )
