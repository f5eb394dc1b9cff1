"""HTML tables of recipes, models, runs and measurements for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from hebm.printable import LINES, printable


def html_table(title: str, rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Return an HTML table. Cells are escaped, and unprintable characters are spelled out."""
    head = "<tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in header) + "</tr>" if header else ""
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div><strong>{_text(title)}</strong><table>{head}{body}</table></div>"


def _text(cell: object) -> str:
    return escape(printable(str(cell), LINES))
