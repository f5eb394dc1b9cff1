"""Numbers as they are printed."""

from __future__ import annotations

import math
from typing import Any


def significant(value: float | None, digits: int = 3) -> str:
    """A number with three significant digits, whole numbers in full, a dash for None and what is not finite.

    Example:
        >>> [significant(x) for x in (0.012345, 12.0049, 12345.6, 10000, None)]
        ['0.0123', '12.0', '12,346', '10,000', '–']
    """
    if value is None or not math.isfinite(value):
        return "–"
    if round(abs(value)) >= 1e9:
        return f"{value:.{digits - 1}e}"
    if float(value).is_integer() or round(abs(value)) >= 10**digits:
        return f"{value:,.0f}"
    if 0 < abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    return f"{value:#.{digits}g}".rstrip(".")


def percent(value: float | None) -> str:
    """A share in per cent, one decimal; a dash for None.

    Example:
        >>> percent(0.8324)
        '83.2 %'
    """
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def shown(value: Any) -> str:
    """Any entry of a JSON file for a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return significant(value)
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "none"
    return "–" if value is None else str(value)
