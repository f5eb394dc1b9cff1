"""Check numeric arguments of the Python API."""

from __future__ import annotations

from hebm.errors import ConfigError


def require_counts(low: int = 1, **numbers: int | None) -> None:
    """Raise `ConfigError` unless each number is None or a whole number of at least `low`."""
    for name, number in numbers.items():
        if number is None:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or number < low:
            raise ConfigError(f"{name}: expected a whole number of at least {low}, got {number!r}")


def require_at_least(low: int, **numbers: float) -> None:
    """Raise `ConfigError` unless each number is at least `low`. NaN raises, too."""
    for name, number in numbers.items():
        if not isinstance(number, (int, float)) or not number >= low:
            raise ConfigError(f"{name}: expected a number of at least {low}, got {number!r}")
