"""Compare runs: a value that prints as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from hebm.errors import ConfigError
from hebm.html import html_table
from hebm.report.comparison import Run as ComparedRun
from hebm.report.comparison import compared, differing_conditions, require_comparable, table
from hebm.report.comparison_files import as_text, write_comparison
from hebm.report.metric_table import Table
from hebm.runs import Run
from hebm.store.run_folder import RunFolder


@attrs.frozen(eq=False, repr=False)
class Comparison:
    """Evaluated runs next to each other; `print` shows the table.

    Arguments:
        runs: in the order of the rows.
    """

    runs: tuple[ComparedRun, ...]

    @property
    def table(self) -> Table:
        """A row for each run, and one with mean and standard deviation of runs that differ only in their seed."""
        return table(self.runs)

    @property
    def differing(self) -> list[str]:
        """A line for each condition in which numbers of the same name differ."""
        return differing_conditions(self.runs)

    def save(self, path: str | Path) -> None:
        """Write it as .html or .png with samples, or as .csv, .json or .md.

        Raises `ConfigError` for another ending, `CheckpointError` if the file cannot be written.
        """
        write_comparison(self.runs, Path(path))

    def __str__(self) -> str:
        return as_text(self.table)

    def __repr__(self) -> str:
        return f"<comparison of {', '.join(run.name for run in self.runs)}>"

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        found = self.table
        return html_table("runs", found.rows, [cell.replace("\n", " ") for cell in found.header])


def compare(runs: Sequence[Run | str | Path], anyway: bool = False) -> Comparison:
    """Compare evaluated runs.

    Arguments:
        runs: runs or their folders.
        anyway: show numbers although they were measured under different conditions.

    Raises:
        ConfigError: with every condition in which the numbers differ, unless `anyway`.
        CheckpointError, HebmError: if a folder is not a run, was changed or is not evaluated yet.

    Example:
        print(hebm.compare(["runs/joint", "runs/diffusion"]))
    """
    if isinstance(runs, (str, Path, Run)) or not len(runs):
        raise ConfigError('compare: expected a list of runs, such as ["runs/a", "runs/b"]')
    found = tuple(compared(RunFolder(run.path if isinstance(run, Run) else Path(run))) for run in runs)
    if not anyway:
        require_comparable(found)
    return Comparison(found)
