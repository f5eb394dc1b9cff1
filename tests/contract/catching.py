"""What tests of the kit share: which checks catch a component."""

import pytest

from hebm.testing import ConformanceError, cases

OF_ANY_RECIPE = ("recipe-class", "frozen", "value", "documented", "round-trip")
"""Checks of every recipe: broken components of these tests are registered nowhere."""


def own_cases(component, **options):
    """The cases of the component's own kind."""
    return [case for case in cases(component, **options) if case.name not in OF_ANY_RECIPE]


def catching(component, leave_out=(), **options):
    """The names of the checks that fail, however they do; checks to leave out are not run."""
    names = set()
    for case in own_cases(component, **options):
        if case.name in leave_out:
            continue
        try:
            case()
        except Exception:
            names.add(case.name)
    return names


def expect_caught(component, name, also=(), leave_out=(), **options):
    """The check of this name raises a `ConformanceError` that says how to fix it; no other fails, except `also`."""
    (case,) = [case for case in own_cases(component, **options) if case.name == name]
    with pytest.raises(ConformanceError, match=r"expected: .*\n *found: .*\n *fix: "):
        case()
    failing = catching(component, leave_out, **options)
    assert failing == {name, *also}, f"caught by {sorted(failing)}"


def names_of(component):
    """The names of all checks of the component's own kind."""
    return {case.name for case in own_cases(component)}
