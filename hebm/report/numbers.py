"""Format numbers for tables, pages and terminals."""

from __future__ import annotations

import math
from typing import Any

from hebm.evaluation.metric import SHARE, Measurement

ARROWS = {None: "", "lower": "↓", "higher": "↑"}
"""Symbols of the better direction of a measurement."""


def significant(value: float | None, digits: int = 3) -> str:
    """Format a number with `digits` significant digits; whole numbers in full; a dash for None, NaN and infinities.

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
    """Format a share in per cent with one decimal; a dash for None, NaN and infinities.

    Example:
        >>> percent(0.8324)
        '83.2 %'
    """
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def measured(measurement: Measurement, digits: int = 3) -> str:
    """Format a measurement as value ± standard error without unit (shares in per cent), or as "undefined".

    Example:
        >>> measured(Measurement("nll", 81.234, "−log p(x)", error=0.3214))
        '81.2 ± 0.32'
        >>> measured(Measurement("agreement", 0.8324, "agreement", unit=SHARE))
        '83.2 %'
    """
    if not measurement.found:
        return "undefined"
    return with_deviation(measurement.value, measurement.error, measurement.unit, digits)


def with_deviation(value: float | None, deviation: float | None, unit: str, digits: int = 3) -> str:
    """Format a number ± a deviation; a dash for None. Both are in per cent if the unit is `SHARE`."""
    share = unit == SHARE
    text = percent(value) if share else significant(value, digits)
    if value is None or deviation is None or not math.isfinite(value):
        return text
    return f"{text.removesuffix(' %')} ± {percent(deviation) if share else significant(deviation, 2)}"


def signed(value: float, unit: str) -> str:
    """Format a difference with its sign and without a unit. Differences of shares are in percentage points.

    Example:
        >>> signed(0.125, SHARE), signed(-2.5, "nats")
        ('+12.5', '-2.50')
    """
    text = f"{100 * value:.1f}" if unit == SHARE else significant(value)
    return f"+{text}" if value > 0 else text


def with_interval(value: float, half: float | None, unit: str) -> str:
    """Format a difference with its interval value ± half, or alone if `half` is None.

    Example:
        >>> with_interval(0.125, 0.05, SHARE), with_interval(2.5, None, "nats")
        ('+12.5 [+7.5, +17.5] points', '+2.50')
    """
    low_high = "" if half is None else f" [{signed(value - half, unit)}, {signed(value + half, unit)}]"
    return signed(value, unit) + low_high + (" points" if unit == SHARE else "")


def unit_of(measurement: Measurement) -> str:
    """Return the unit to print after a number; "" for a share, whose number has a per cent sign."""
    return "" if measurement.unit == SHARE else measurement.unit


def shown(value: Any) -> str:
    """Format any entry of a JSON file for a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return significant(value)
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "none"
    return "–" if value is None else str(value)
