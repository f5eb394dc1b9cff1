"""`pytest --hebm DISTRIBUTION` runs every check of every component of a distribution, each as a test."""

import os
import subprocess
import sys

import catalogue
import pytest

import hebm.testing.pytest_items  # noqa: F401  before pytester takes its snapshot of sys.modules
from hebm import entry_points
from hebm.declared import IN_ORDER, declared_by

pytest_plugins = "pytester"

SOURCE = '''
"""Samplers of a third party."""

from hebm import ULA, option, recipe


@recipe
class Fine(ULA):
    """A sampler that keeps its promises."""


@recipe
class Eager(ULA):
    """A sampler that moves twice as far along the gradient as it should."""

    def step(self, density, state, noise):
        """Make a step that goes too far."""
        state, info = super().step(density, state, noise)
        return type(state)(state.u + 0.5 * self.step_size * info.grad), info


@recipe
class Crashing(ULA):
    """A sampler with a bug."""

    def step(self, density, state, noise):
        """Fail as a bug in a plugin does."""
        return 1 / 0


@recipe
class Needy(ULA):
    """A sampler with a key that has no default."""

    limit: int = option(doc="a number")
'''
POINTS = """\
[hebm_samplers]
fine = third_party_samplers:Fine
eager = third_party_samplers:Eager
crashing = third_party_samplers:Crashing
needy = third_party_samplers:Needy
absent = third_party_samplers:Absent
"""


@pytest.fixture
def here(pytester, monkeypatch):
    """A folder without tests, with the distribution `third-party` on the path."""
    monkeypatch.setattr(catalogue, "REGISTRY", dict(catalogue.REGISTRY))  # what one test loads, no other finds
    site = pytester.mkdir("site")
    info = site / "third_party-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: Third_Party\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(POINTS)
    site.joinpath("third_party_samplers.py").write_text(SOURCE)
    pytester.syspathinsert(site)
    entry_points.reread()
    yield pytester
    sys.modules.pop("third_party_samplers", None)
    entry_points.reread()


def run(here, *arguments):
    """Run pytest in this process, with no other plugin and without collecting torch's garbage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        plugins = ("hebm.pytest_plugin", "no:cacheprovider", "no:unraisableexception", "no:threadexception")
        return here.runpytest_inprocess(*(word for name in plugins for word in ("-p", name)), *arguments)


def outcomes(result):
    """The outcome of each test by its id."""
    lines = [line.split() for line in result.stdout.lines if line.startswith("third-party/")]
    return {line[0].removeprefix("third-party/samplers:"): line[1] for line in lines}


def test_each_check_of_each_component_is_a_test_in_a_folder_without_tests(here):
    result = run(here, "--hebm", "third-party", "-v", "--tb=no")
    seen = outcomes(result)
    assert seen["fine::loads"] == seen["fine::stationary"] == seen["fine::round-trip"] == "PASSED"
    assert seen["eager::stationary"] == "FAILED"
    assert seen["eager::state"] == "PASSED"
    assert {name for name in seen if name.startswith(("absent", "needy"))} == {"absent::loads", "needy::loads"}
    assert seen["absent::loads"] == seen["needy::loads"] == "FAILED"
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_components_are_listed_in_the_order_of_dependence():
    seen = list(dict.fromkeys(one.group.removeprefix("hebm_") for one in declared_by("hebm")))
    order = "datasets extractors energies samplers backbones priors schemes metrics analyses formats commands".split()
    assert seen == [group for group in order if group in seen]
    assert {"samplers", "priors", "metrics"} <= set(seen)


def test_every_group_has_its_place_in_the_order():
    assert sorted(IN_ORDER) == sorted(entry_points.GROUPS)


def test_a_check_that_fails_prints_what_the_kit_says_and_nothing_of_the_kit(here):
    result = run(here, "--hebm", "third-party/samplers:eager", "-k", "stationary")
    text = result.stdout.str().split("= warnings summary =")[0]  # old versions of pytest warn of the plugin itself
    assert "expected: " in text
    assert "fix: " in text
    assert "Traceback" not in text
    assert ".py:" not in text


def test_a_bug_of_the_component_is_shown_where_it_is_without_frames_of_the_kit(here):
    text = run(here, "--hebm", "third-party/samplers:crashing", "-k", "stationary").stdout.str()
    assert "third_party_samplers.py" in text
    assert "ZeroDivisionError" in text
    assert "hebm/testing" not in text
    assert "pytest_items" not in text


def test_a_component_that_cannot_be_loaded_fails_with_the_cause(here):
    text = run(here, "--hebm", "third-party/samplers:absent").stdout.str()
    assert "module 'third_party_samplers' has no attribute 'Absent'" in text
    assert "1 failed" in text


def test_a_key_without_default_fails_with_the_lines_that_fix_it(here):
    text = run(here, "--hebm", "third-party/samplers:needy").stdout.str()
    assert "third-party/samplers:needy has no defaults for limit" in text
    assert 'return {"samplers:needy": {"component": Needy(limit=…)}}' in text


def test_subjects_of_a_conftest_are_checked_each_and_expected_failures_are_xfail(here):
    here.makeconftest(
        """
        def pytest_hebm_subjects():
            from third_party_samplers import Eager, Needy

            wrong = dict.fromkeys(("stationary", "stationary-skewed", "stationary-factor", "scale"), "it moves too far")
            return {
                "samplers:needy": [{"component": Needy(limit=1)}, {"component": Needy(limit=2)}],
                "samplers:eager": {"expect_failure": wrong},
            }
        """
    )
    needy, eager = "third-party/samplers:needy", "third-party/samplers:eager"
    seen = outcomes(run(here, "--hebm", needy, "--hebm", eager, "-v", "--tb=no"))
    assert seen["needy[1]::round-trip"] == seen["needy[2]::round-trip"] == "PASSED"
    assert seen["eager::stationary"] == "XFAIL"
    assert "FAILED" not in seen.values()


def test_subjects_may_come_with_the_distribution_and_leave_components_out(here):
    source = "def pytest_hebm_subjects(): return {f'samplers:{name}': [] for name in ('eager', 'crashing', 'needy')}"
    here.path.joinpath("site", "third_party_checked.py").write_text(source)
    options = ("-p", "third_party_checked", "--collect-only", "-q")
    text = run(here, "--hebm", "third-party", *options).stdout.str()
    assert "samplers:fine" in text
    assert "samplers:needy" not in text


def test_another_component_than_the_one_declared_is_a_failure(here):
    source = "def pytest_hebm_subjects():\n    import hebm\n    return {'samplers:fine': {'component': hebm.ULA()}}"
    here.makeconftest(source)
    text = run(here, "--hebm", "third-party/samplers:fine").stdout.str()
    assert "ULA(" in text
    assert "is not third-party/samplers:fine; give an instance of" in text


def test_an_expected_failure_that_passes_is_a_failure(here):
    here.makeconftest("def pytest_hebm_subjects(): return {'samplers:fine': {'expect_failure': {'state': 'why not'}}}")
    assert outcomes(run(here, "--hebm", "third-party/samplers:fine", "-v", "--tb=no"))["fine::state"] == "FAILED"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{'samplers:fien': {}}", "no installed distribution declares 'samplers:fien'; did you mean 'samplers:fine'?"),
        ("{'samplers:fine': {'layuot': 1}}", "unknown 'layuot'; did you mean 'layout'?"),
        ("{'samplers:fine': 3}", "'samplers:fine': expected a mapping with any of component,"),
    ],
)
def test_subjects_that_do_not_fit_stop_the_session_with_the_reason(here, returned, message):
    here.makeconftest(f"def pytest_hebm_subjects(): return {returned}")
    result = run(here, "--hebm", "third-party")
    assert message in result.stdout.str()
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_an_expected_failure_must_name_a_check_of_the_component(here):
    here.makeconftest("def pytest_hebm_subjects(): return {'samplers:fine': {'expect_failure': {'stat': 'why'}}}")
    text = run(here, "--hebm", "third-party/samplers:fine").stdout.str()
    assert "unknown check stat; expected one of state," in text


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("third-prty", "did you mean 'third-party'? (distributions that do: hebm, third-party)"),
        ("third-party/samplers:fien", "third-party declares no 'samplers:fien'; did you mean 'samplers:fine'?"),
    ],
)
def test_what_nobody_declares_is_a_usage_error_that_lists_what_there_is(here, what, message):
    result = run(here, "--hebm", what)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def test_several_distributions_are_checked_and_expressions_select_among_their_checks(here):
    result = run(
        here,
        "--hebm",
        "Third.Party",
        "--hebm",
        "hebm/samplers:ula",
        "--collect-only",
        "-q",
        "-k",
        "(fine or ula) and pure",
    )
    assert result.stdout.lines[:2] == ["third-party/samplers:fine::pure", "hebm/samplers:ula::pure"]


def test_blocked_components_are_not_checked(here, monkeypatch):
    monkeypatch.setenv("HEBM_BLOCK", "samplers:absent,samplers:needy")
    text = run(here, "--hebm", "third-party", "--collect-only", "-q").stdout.str()
    assert "samplers:fine" in text
    assert "samplers:absent" not in text


def test_the_folders_own_tests_run_too(here):
    here.makepyfile("def test_own(): pass")
    result = run(here, "--hebm", "third-party/samplers:fine", "-k", "own or loads")
    assert result.parseoutcomes()["passed"] == 2
    assert "failed" not in result.parseoutcomes()


@pytest.mark.slow
def test_several_processes_share_the_checks(here):
    path = os.pathsep.join([str(here.path / "site"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-k", "not stationary", "--hebm", "third-party"]
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=here.path, env=environment, capture_output=True, text=True)
    assert "samplers:eager::scale" in done.stdout, done.stdout + done.stderr
    assert "samplers:fine" not in done.stdout


def test_without_the_option_nothing_of_hebm_but_this_module_is_imported(here):
    here.makepyfile(
        """
        import sys

        def test_modules():
            found = {name for name in sys.modules if name.partition(".")[0] in ("hebm", "torch", "attrs", "click")}
            assert found == {"hebm", "hebm.pytest_plugin"}
        """
    )
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=here.path, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout
