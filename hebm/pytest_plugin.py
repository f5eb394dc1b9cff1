"""`pytest --hebm DISTRIBUTION`: run the conformance checks of every component that a distribution declares.

pytest imports this module in every session where hebm is installed. So it imports nothing else of hebm, and without
the option it does nothing. `hebm.testing.pytest_items` makes the tests.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

HELP = (
    "also run hebm's conformance checks of every component that this installed distribution declares, or of one "
    "(DISTRIBUTION/GROUP:NAME); repeatable"
)


class Hooks:
    """What a conftest.py may define, or a module given by `-p`, which may belong to the distribution itself."""

    def pytest_hebm_subjects(self) -> Mapping[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]]:
        """Return what components are checked with, by "GROUP:NAME": arguments of `hebm.testing.cases`, by name.

        A list of such mappings checks a component several times, an empty list not at all. Components that are left
        out are checked with their defaults.

        Example:
            def pytest_hebm_subjects():
                return {"priors:my-prior": {"component": MyPrior(width=8)}}
        """
        raise NotImplementedError


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--hebm` to the command line of pytest."""
    group = parser.getgroup("hebm", "conformance checks of hebm's plugins")
    group.addoption("--hebm", action="append", default=[], metavar="DISTRIBUTION", help=HELP)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare what a conftest.py may define for these tests."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a distribution that declares no components, before anything is collected."""
    if config.getoption("hebm"):
        from hebm.declared import declared_by
        from hebm.errors import PluginError

        try:
            for what in config.getoption("hebm"):
                declared_by(what)
        except PluginError as error:
            raise pytest.UsageError(f"--hebm: {error}") from None


@pytest.hookimpl(hookwrapper=True)  # the form that old versions of pytest know too
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, None]:
    """Append the tests of `--hebm` to what the session collects."""
    outcome = yield
    if isinstance(collector, pytest.Session) and collector.config.getoption("hebm"):
        report = outcome.get_result()
        if report.passed:
            from hebm.testing.pytest_items import collectors

            report.result = [*report.result, *collectors(collector)]
