"""Write a comparison as text for terminals, as Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from hebm.evaluation.metric import Measurement
from hebm.printable import printable
from hebm.report.comparison import Run, as_plain, columns
from hebm.report.comparison_table import LEGEND, ComparedTable
from hebm.report.control import below_control
from hebm.report.metric_table import Table
from hebm.report.variants import Variant, baseline_called, difference, is_judged, variants
from hebm.store.metrics import finite

_HEAD_WIDTH = 14
_DIFFERENCES = "Paired differences, with their 95 % intervals:"
_TEX = {
    **{c: f"\\{c}" for c in "%&#_{}$"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
    "τ": r"$\tau$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "²": "$^2$",
    "†": r"$^\dagger$",
}

_MINUS = re.compile(r"(?<!\w)-(?=\d)")
"""A minus sign, not a hyphen."""


def as_text(cells: ComparedTable, width: int | None = None) -> str:
    """Return the table with columns aligned by spaces and numbers to the right. Long heads take several lines.

    The first lines name learned priors that do not beat the control.

    Arguments:
        cells: the table.
        width: the number of characters in a line. Columns that do not fit follow in further blocks, which repeat the
            first column. None writes each row on one line.
    """
    starred = {k for _, k in cells.best}
    body = [
        [cell + " " * (k in starred and not cell.endswith("*")) for k, cell in enumerate(row)] for row in cells.marked()
    ]
    lines = [*map(printable, cells.first_lines), aligned(cells.header, body, cells.words, width)]
    lines += [LEGEND] if cells.best or cells.below else []
    if cells.differences is not None:
        lines += ["", _DIFFERENCES, aligned(cells.differences.header, cells.differences.rows, 1, width)]
    return "\n".join(lines)


def aligned(header: Sequence[str], body: Sequence[Sequence[str]], words: int, width: int | None = None) -> str:
    """Return a table with aligned columns, the first `words` of them to the left and the others to the right.

    Columns that exceed `width` follow in further blocks, each after an empty line.
    """
    heads = [[line for part in cell.split("\n") for line in _wrapped(part)] for cell in header]
    height = max(map(len, heads))
    lines = [[""] * (height - len(head)) + head for head in heads]
    rows = [[printable(cell) for cell in row] for row in (*zip(*lines, strict=True), *body)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    blocks = []
    for block in _blocks(widths, width):
        shown = ("  ".join(f"{row[i]:{'<' if i < words else '>'}{widths[i]}}" for i in block).rstrip() for row in rows)
        blocks.append("\n".join(filter(None, shown)))  # heads of fewer lines leave empty ones above them
    return "\n\n".join(blocks)


def _blocks(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Divide columns into blocks of at most `width` characters. Each starts with column 0 and has another column."""
    blocks, used = [[0]], widths[0]
    for i in range(1, len(widths)):
        if width is not None and len(blocks[-1]) > 1 and used + 2 + widths[i] > width:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(i)
        used += 2 + widths[i]
    return blocks


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _HEAD_WIDTH, break_long_words=False) or [""]


def as_markdown(cells: ComparedTable) -> str:
    """Return the table in Markdown, with the best numbers in bold."""
    bold = [
        [f"**{cell}**" if (i, k) in cells.best else cell for k, cell in enumerate(row)]
        for i, row in enumerate(cells.marked(stars=False))
    ]
    parts = [f"{printable(line)}\n\n" for line in cells.first_lines] + [_markdown(cells.header, bold, cells.words)]
    if cells.below:
        parts.append(f"\n{LEGEND.partition('; ')[2]}\n")
    if cells.differences is not None:
        parts.append(f"\n{_DIFFERENCES}\n\n{_markdown(cells.differences.header, cells.differences.rows, 1)}")
    return "".join(parts)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    rule = [":--" if i < words else "--:" for i in range(len(header))]
    every = [[cell.replace("\n", ", ") for cell in header], rule, *rows]
    return "".join("| " + " | ".join(printable(cell).replace("|", "\\|") for cell in row) + " |\n" for row in every)


def as_tex(cells: ComparedTable) -> str:
    r"""Return a `tabular` for LaTeX with `\usepackage{booktabs}`, with the best numbers in bold."""
    lines = [f"% {printable(line)}" for line in cells.first_lines]
    lines += [rf"\begin{{tabular}}{{{'l' * cells.words}{'r' * (len(cells.header) - cells.words)}}}", r"\toprule"]
    heads = [[tex(part) for part in cell.split("\n")] for cell in cells.header]
    for i in range(max(map(len, heads))):
        lines.append(" & ".join(head[i] if i < len(head) else "" for head in heads) + r" \\")
    lines.append(r"\midrule")
    for i, row in enumerate(cells.marked(stars=False)):
        bold = (rf"\textbf{{{tex(cell)}}}" if (i, k) in cells.best else tex(cell) for k, cell in enumerate(row))
        lines.append(" & ".join(bold) + r" \\")
    note = [f"% {tex(LEGEND.partition('; ')[2])}"] if cells.below else []
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *note]) + "\n"


def tex(text: str) -> str:
    r"""Escape text for LaTeX.

    Example:
        >>> print(tex("77.9 ± 1.2 %"))
        77.9 $\pm$ 1.2 \%
    """
    return "".join(_TEX.get(c, c) for c in _MINUS.sub("−", printable(text)))


def as_csv(cells: Table) -> str:
    """Return the table as comma-separated values."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([cells.header, *cells.rows])
    return buffer.getvalue()


def as_json(runs: Sequence[Run], baseline: str | None = None) -> str:
    """Return the records of `as_records` as JSON text."""
    return json.dumps(as_records(runs, baseline), indent=2, allow_nan=False) + "\n"


def as_records(runs: Sequence[Run], baseline: str | None = None) -> list[dict[str, Any]]:
    """Return one mapping per run with all of its measurements and their conditions.

    Each mapping has the name of the run's variant and, with a baseline, the variant's paired differences.
    """
    found, judged = variants(runs), [column for column in columns(runs) if is_judged(column)]
    own = None if baseline is None else baseline_called(baseline, found)
    added: dict[int, dict[str, Any]] = {}
    for variant in found:
        more: dict[str, Any] = {"variant": variant.name, "below_control": below_control(variant.results)}
        if own is not None and variant is not own:
            more["baseline"], more["differences"] = own.name, _differences(variant, own, judged)
        added |= {id(run): more for run in variant.runs}
    plain = [{**entry, **added[id(run)]} for run, entry in zip(runs, as_plain(runs), strict=True)]
    return list(finite(plain))


def _differences(variant: Variant, baseline: Variant, judged: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    found = {".".join(filter(None, column.key)): difference(variant, baseline, column) for column in judged}
    return {name: made._asdict() for name, made in found.items() if made is not None}
