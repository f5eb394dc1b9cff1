"""Compare runs in Python; the result prints as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from hebm.errors import ConfigError
from hebm.html import html_table
from hebm.report.against import Against, held_against
from hebm.report.comparison import Run as ComparedRun
from hebm.report.comparison import compared, differing_conditions, named_evaluations, require_comparable
from hebm.report.comparison_files import write_comparison
from hebm.report.comparison_table import ComparedTable, table
from hebm.report.comparison_text import as_records, as_text
from hebm.report.measured_rows import Row, read_rows, rows_of
from hebm.report.variants import baseline_called, variants
from hebm.runs import Run
from hebm.store.run_folder import RunFolder


@attrs.frozen(eq=False, repr=False)
class Comparison:
    """A comparison of evaluated runs; `print` shows its table.

    Arguments:
        runs: the runs, in the given order.
        baseline: the name of a run or variant; the table shows paired differences from it.
        left_out: for each named evaluation that is not comparable with the others, a line with the reason.
    """

    runs: tuple[ComparedRun, ...]
    baseline: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def table(self) -> ComparedTable:
        """One row for each run, the best first, and mean and deviation of runs that differ only in their seed."""
        return table(self.runs, baseline=self.baseline)

    @property
    def differing(self) -> list[str]:
        """One line for each condition in which numbers of the same name differ."""
        return differing_conditions(self.runs)

    def save(self, path: str | Path) -> None:
        """Write the comparison to a file, in the format of its ending.

        .html and .png include samples; .csv, .json and .md hold the table; .tex is a booktabs table of variants.
        NAME.measurements is a folder with a file for each variant, which `against` reads.

        Raises `ConfigError` for another ending, `CheckpointError` if the file cannot be written.
        """
        write_comparison(self.runs, Path(path), self.baseline)

    def against(self, committed: str | Path | Sequence[Row], anyway: bool = False) -> Against:
        """Compare each variant with earlier measurements. The printed result shows which numbers differ beyond noise.

        Arguments:
            committed: a folder NAME.measurements that `save` wrote, a file in it, or its rows.
            anyway: compare numbers even if they were measured under different conditions.

        Raises:
            ConfigError: if no variant is in both, or if runs of a variant were measured differently.
            CheckpointError: if a file does not have the expected structure.
        """
        rows = read_rows(Path(committed)) if isinstance(committed, (str, Path)) else committed
        return held_against(rows_of(self.runs), rows, anyway)

    def to_json(self) -> list[dict[str, Any]]:
        """Return one mapping for each run, as `save` writes to a .json file."""
        return as_records(self.runs, self.baseline)

    def __str__(self) -> str:
        return as_text(self.table)

    def text(self, width: int) -> str:
        """Return the table as text with at most `width` characters in a line; further columns follow below."""
        return as_text(self.table, width)

    def __repr__(self) -> str:
        return f"<comparison of {', '.join(run.name for run in self.runs)}>"

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        found = self.table
        return html_table("runs", found.marked(), [cell.replace("\n", " ") for cell in found.header])


def compare(runs: Sequence[Run | str | Path], anyway: bool = False, *, baseline: str | None = None) -> Comparison:
    """Compare evaluated runs; each of their named evaluations is a separate row.

    Arguments:
        runs: runs or their folders.
        anyway: show numbers even if they were measured under different conditions.
        baseline: the name of a run or variant. A variant is a set of runs that differ only in their seed; its name is
            the common start of theirs, or the part of that after a hyphen. The table shows the paired differences of
            all other variants from it.

    Raises:
        ConfigError: if numbers differ in a condition and `anyway` is False (the error lists all conditions), or if the
            baseline is unknown.
        CheckpointError, HebmError: if a folder is not a run, was changed, or is not evaluated yet.

    Example:
        print(hebm.compare(["runs/joint", "runs/diffusion"]))
    """
    if isinstance(runs, (str, Path, Run)) or not len(runs):
        raise ConfigError('compare: expected a list of runs, such as ["runs/a", "runs/b"]')
    found = tuple(compared(RunFolder(run.path if isinstance(run, Run) else Path(run))) for run in runs)
    if not anyway:
        require_comparable(found)
    found, left_out = _with_named(found, anyway)
    if baseline is not None:
        baseline_called(baseline, variants(found))
    return Comparison(found, baseline, left_out)


def _with_named(runs: tuple[ComparedRun, ...], anyway: bool) -> tuple[tuple[ComparedRun, ...], tuple[str, ...]]:
    """Return the runs, each followed by its comparable named evaluations, and a line for each that is left out."""
    found: list[ComparedRun] = []
    left_out: list[str] = []
    for run in runs:
        found.append(run)
        for named in named_evaluations(run):
            differing = [] if anyway else differing_conditions([*runs, named])
            if differing:
                left_out.append(f"{named.name} is left out, --anyway shows it: {'; '.join(differing)}")
            else:
                found.append(named)
    return tuple(found), tuple(left_out)
