"""Compare runs: a value that prints as a table."""

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
    """Evaluated runs next to each other; `print` shows the table.

    Arguments:
        runs: in the order in which they were given.
        baseline: the name of a run or variant to take paired differences from.
        left_out: a line for each evaluation with a name that is not comparable with the others, which says why.
    """

    runs: tuple[ComparedRun, ...]
    baseline: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def table(self) -> ComparedTable:
        """A row for each run, the best first, and one for mean and deviation of runs that differ only in their seed."""
        return table(self.runs, baseline=self.baseline)

    @property
    def differing(self) -> list[str]:
        """A line for each condition in which numbers of the same name differ."""
        return differing_conditions(self.runs)

    def save(self, path: str | Path) -> None:
        """Write it as .html or .png with samples, as .csv, .json or .md, or as a booktabs table of variants in .tex.

        NAME.measurements is a folder with a file for each variant, which `against` reads.

        Raises `ConfigError` for another ending, `CheckpointError` if the file cannot be written.
        """
        write_comparison(self.runs, Path(path), self.baseline)

    def against(self, committed: str | Path | Sequence[Row], anyway: bool = False) -> Against:
        """Hold each variant against what was measured before; print it to see which numbers are outside noise.

        Arguments:
            committed: a folder NAME.measurements that `save` wrote, or a file in it; or the rows that it had.
            anyway: judge numbers although they were measured under different conditions.

        Raises:
            ConfigError: if it has no variant in common with these runs, or runs of a variant were measured differently.
            CheckpointError: for a file of another shape.
        """
        rows = read_rows(Path(committed)) if isinstance(committed, (str, Path)) else committed
        return held_against(rows_of(self.runs), rows, anyway)

    def to_json(self) -> list[dict[str, Any]]:
        """Return what `save` writes to a .json file: a mapping for each run."""
        return as_records(self.runs, self.baseline)

    def __str__(self) -> str:
        return as_text(self.table)

    def __repr__(self) -> str:
        return f"<comparison of {', '.join(run.name for run in self.runs)}>"

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        found = self.table
        return html_table("runs", found.marked(), [cell.replace("\n", " ") for cell in found.header])


def compare(runs: Sequence[Run | str | Path], anyway: bool = False, *, baseline: str | None = None) -> Comparison:
    """Compare evaluated runs, and their evaluations with a name as rows of their own.

    Arguments:
        runs: runs or their folders.
        anyway: show numbers although they were measured under different conditions.
        baseline: the name of a run, or of a variant (runs that differ only in their seed; what their names begin with,
            or the end of that after a hyphen). Every other variant's paired differences from it are shown.

    Raises:
        ConfigError: with every condition in which the numbers differ, unless `anyway`; for an unknown baseline.
        CheckpointError, HebmError: if a folder is not a run, was changed or is not evaluated yet.

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
    """Return the runs, each followed by its comparable evaluations with a name, and what is said of the others."""
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
