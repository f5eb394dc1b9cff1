"""The measurements of a run or of images, in Python."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from hebm.evaluation.kinds import KINDS
from hebm.evaluation.metric import Measurement
from hebm.evaluation.metrics_file import Results
from hebm.html import html_table
from hebm.report.metric_table import conditions_in_short
from hebm.report.numbers import ARROWS, measured, unit_of
from hebm.report.text_table import metrics_table
from hebm.store.run_folder import RunFolder


@attrs.frozen(repr=False)
class Measurements:
    """The measurements of a run or of images. `print` shows them as a table with their conditions.

    Arguments:
        name: the name of the run or of the images.
        results: the measurements, their conditions and computation time.
        folder: the run folder; None for images that no run made.

    Example:
        found = hebm.open_run("runs/quickstart").measurements
        found.get("fd", kind="prior").value
    """

    name: str
    results: Results
    folder: RunFolder | None = None

    @classmethod
    def of_run(cls, folder: RunFolder, results: Results) -> Measurements:
        """Return the measurements of the run in a folder."""
        return cls(folder.path.name, results, folder)

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.results.measurements)

    def __len__(self) -> int:
        return len(self.results.measurements)

    def get(self, name: str, kind: str | None = None, part: str = "") -> Measurement | None:
        """Return the measurement of a name, kind and part, or None if there is none.

        Arguments:
            name: the name, such as "fd".
            kind: the kind of images, such as "prior".
            part: one of several parts, such as "layer 1".
        """
        return self.results.get(name, kind, part)

    def __str__(self) -> str:
        return metrics_table(self.name, self.results, self.folder)

    def __repr__(self) -> str:
        return f"<{len(self)} measurements of {self.name if self.folder is None else self.folder.path}>"

    def _repr_html_(self) -> str:
        """Show the measurements as a table in a notebook, without details."""
        rows = [
            (
                f"{found.title} {ARROWS[found.better]}".strip(),
                "" if found.kind is None else KINDS[found.kind].title,
                found.part,
                f"{measured(found, 4)} {unit_of(found)}".strip(),
            )
            for found in self
            if not found.detail
        ]
        title = f"{self.name}: {conditions_in_short(self.results)}"
        return html_table(title, rows, ("measurement", "images", "part", "value"))
