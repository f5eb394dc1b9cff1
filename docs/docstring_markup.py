"""Turn docstrings, which are plain text with backticks, into Markdown and reStructuredText."""

from __future__ import annotations

import inspect
import re

_CODE = re.compile(r"(`[^`]*`)")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")
_PARAGRAPH_ENDS = re.compile(r"\n\s*\n")
_SECTION = re.compile(r"[A-Z][a-z]+:")


def description(text: str | None) -> str:
    """Return a docstring up to its first section, such as `Arguments:`, without its indentation."""
    lines = inspect.cleandoc(text or "").split("\n")
    end = next((i for i, line in enumerate(lines) if _SECTION.fullmatch(line)), len(lines))
    return "\n".join(lines[:end]).strip()


def as_markdown(text: str) -> str:
    """Return plain text as Markdown: what is not code loses its special characters.

    Indented blocks are code, and tables stay tables.
    """
    blocks = _PARAGRAPH_ENDS.split(inspect.cleandoc(text))
    return "\n\n".join(
        block if block.startswith(("    ", "| ")) else _marked(block, r"([*<>\[\]$\\|])") for block in blocks
    )


def as_restructured_text(lines: list[str]) -> list[str]:
    """Return the lines of a docstring as reStructuredText; sections keep their form for napoleon.

    What is not code loses its special characters. A formula on indented lines, and an example without `>>>`, become
    literal blocks.
    """
    section: str | None = None
    found: list[str] = []
    for paragraph in _PARAGRAPH_ENDS.split("\n".join(lines)):
        rows = paragraph.split("\n")
        section = section if rows[0].startswith(" ") else None
        if _SECTION.fullmatch(rows[0]):
            section = rows.pop(0)
            found.append(section)
        found += [*_converted(rows, section), ""]
    return found


def _converted(rows: list[str], section: str | None) -> list[str]:
    """Return the lines of a paragraph, given the title of the section that it belongs to."""
    first = rows[0] if rows else ""
    if first.lstrip().startswith(">>>"):
        return rows
    if first.startswith("| ") or (first.startswith("    ") and section in (None, "Example:")):
        margin = "" if section is None else "    "
        return [f"{margin}::", "", *(f"{margin}    {row.removeprefix('    ')}" for row in rows)]
    return [_marked(row, r"([*|\\]|_\b|(?<=\b[A-Z])\.)", "``") for row in rows]


def _marked(text: str, special: str, quotes: str = "`") -> str:
    """Escape special characters outside code, and make code of options such as --set."""
    parts = _CODE.split(text)
    return "".join(part if _CODE.fullmatch(part) else _outside(part, special, quotes) for part in parts)


def _outside(text: str, special: str, quotes: str) -> str:
    return _OPTION.sub(rf"{quotes}\1{quotes}", re.sub(special, r"\\\1", text))
