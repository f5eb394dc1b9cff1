"""Suggest the closest name for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `"; did you mean 'near'?"` for the closest of `choices`, or an empty string.

    Example:
        >>> did_you_mean("stpes", ["steps", "step_size"])
        "; did you mean 'steps'?"
    """
    by_form = {choice.lower().replace("_", "-"): choice for choice in choices}
    near = difflib.get_close_matches(word.lower().replace("_", "-"), by_form, n=1)
    return f"; did you mean {by_form[near[0]]!r}?" if near else ""
