"""`pytest --hebm DISTRIBUTION`: run the conformance checks of every component that a distribution declares.

pytest imports this module in every session where hebm is installed. So it imports no other module of hebm, and does
nothing without the option. `hebm.testing.pytest_items` makes the tests.
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
    """Hooks that a conftest.py may define, or a module given by `-p`, which may belong to the distribution."""

    def pytest_hebm_subjects(self) -> Mapping[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]]:
        """Return arguments of `hebm.testing.cases` for components, by "GROUP:NAME".

        A list of such mappings checks a component several times; an empty list skips it. Components that are not listed
        are checked with their defaults.

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
    """Declare the hooks that a conftest.py may define."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Raise an error for a distribution that declares no components, before tests are collected."""
    if config.getoption("hebm"):
        from hebm.declared import declared_by
        from hebm.errors import PluginError

        try:
            for what in config.getoption("hebm"):
                declared_by(what)
        except PluginError as error:
            raise pytest.UsageError(f"--hebm: {error}") from None


@pytest.hookimpl(hookwrapper=True)  # old versions of pytest support this form, too
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, None]:
    """Append the tests of `--hebm` to those that the session collects."""
    outcome = yield
    if isinstance(collector, pytest.Session) and collector.config.getoption("hebm"):
        report = outcome.get_result()
        if report.passed:
            from hebm.testing.pytest_items import collectors

            report.result = [*report.result, *collectors(collector)]
