"""The kit reports failures with the promise and the fix."""

import subprocess
import sys

import pytest

from hebm.testing import (
    ConformanceError,
    backbone_checks,
    cases,
    check_all,
    check_sampler,
    dataset_checks,
    energy_checks,
    extractor_checks,
    parametrize,
    prior_checks,
    recipe_checks,
    sampler_checks,
)
from hebm.testing.checks import KINDS
from hebm.testing.conformance import Case
from hebm_plugins.samplers.langevin import Langevin
from hebm_plugins.samplers.ula import ULA


def keeps(subject):
    pass


def breaks(subject):
    raise ConformanceError("expected: a\n    found: b\n    fix: c")


def crashes(subject):
    raise ZeroDivisionError("third-party")


def test_all_failures_are_reported_at_once():
    made = [Case("sound", keeps, (1,)), Case("first", breaks, (1,)), Case("second", crashes, (1,))]
    with pytest.raises(ConformanceError) as caught:
        check_all(made)
    message = str(caught.value)
    assert "2 of 3 checks failed" in message
    assert "first: expected: a" in message
    assert "second: ZeroDivisionError: third-party" in message
    assert "test_conformance.py" in message
    assert "sound" not in message


def test_an_expected_failure_is_allowed_only_while_it_fails():
    check_all([Case("first", breaks, (1,), reason="known")])
    with pytest.raises(ConformanceError, match="remove it from expect_failure"):
        check_all([Case("sound", keeps, (1,), reason="known")])


def test_an_expected_failure_must_name_a_check():
    with pytest.raises(ConformanceError, match="unknown check no-such-check"):
        check_sampler(ULA(), expect_failure={"no-such-check": "reason"})


def test_a_tempered_sampler_is_caught_and_can_be_excused():
    hot = Langevin(temperature=2.0)
    with pytest.raises(ConformanceError, match="stationary"):
        check_sampler(hot)
    check_sampler(
        hot,
        expect_failure=dict.fromkeys(("stationary", "stationary-skewed", "stationary-factor"), "it targets p^(1/2)"),
    )


def test_checks_have_names_and_docstrings():
    every = (
        backbone_checks,
        energy_checks,
        prior_checks,
        sampler_checks,
        dataset_checks,
        extractor_checks,
        recipe_checks,
    )
    for checks in every:
        made = checks()
        assert made
        assert all(check.__doc__ for check in made.values())
        assert all(name == name.lower() and "_" not in name for name in made)


@pytest.mark.parametrize(("thing", "hint"), [(7, "derive it"), (ULA, r"pass an instance of it, ULA\(")])
def test_what_is_of_no_kind_is_an_error_that_says_so(thing, hint):
    with pytest.raises(ConformanceError, match=rf"expected: .*\n *found: .*\n *fix: {hint}"):
        cases(thing)


def test_every_group_of_the_registry_has_checks():
    from hebm.registry import GROUPS, interface

    assert {interface(group) for group in GROUPS} == {checks.kind for checks in KINDS}


def test_pytest_shows_each_check_on_its_own():
    mark = parametrize(cases(ULA(), expect_failure={"scale": "why not"})).mark
    ids = [case.id for case in mark.args[1]]
    assert "ULA-stationary" in ids
    assert "ULA-round-trip" in ids
    assert [case.id for case in mark.args[1] if case.marks] == ["ULA-scale"]


def test_the_kit_needs_no_pytest_to_be_imported():
    script = "import sys, hebm.testing; sys.exit('pytest' in sys.modules or 'hebm_plugins' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
