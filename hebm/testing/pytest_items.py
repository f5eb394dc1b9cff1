"""Create one test of `pytest --hebm DISTRIBUTION` for each check of each component.

    hebm-my-package/priors:my-prior::density

The hook `pytest_hebm_subjects` can set the recipes and arguments of components. All others use their defaults.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

from hebm import registry
from hebm.config.recipes import fields_of
from hebm.declared import Declared, declared_by, everything
from hebm.errors import ConfigError, HebmError, PluginError
from hebm.suggest import did_you_mean
from hebm.testing.conformance import Case, cases
from hebm.testing.promises import ConformanceError

Subject = Mapping[str, Any]

_KIT = Path(__file__).parent
_OPTIONS = tuple(inspect.signature(cases).parameters)


def collectors(session: pytest.Session) -> list[pytest.Collector]:
    """Return one collector per distribution of `--hebm`."""
    asked: dict[str, dict[str, Declared]] = {}
    for what in session.config.getoption("hebm"):
        for one in declared_by(what):
            asked.setdefault(one.distribution, {})[one.key] = one
    return [Distribution.of(session, name, tuple(chosen.values())) for name, chosen in asked.items()]


class Distribution(pytest.Collector):
    """Collects all chosen components of one distribution."""

    chosen: tuple[Declared, ...]

    @classmethod
    def of(cls, session: pytest.Session, name: str, chosen: tuple[Declared, ...]) -> Distribution:
        """Return the collector of a distribution."""
        made: Distribution = cls.from_parent(session, name=name, nodeid=name)
        made.chosen = chosen
        return made

    def collect(self) -> Iterator[pytest.Collector]:
        """Return the collectors of all components, one for each of their subjects."""
        try:
            subjects = _subjects(self.config)
        except HebmError as error:
            raise self.CollectError(f"pytest_hebm_subjects: {error}") from None
        for one in self.chosen:
            given = subjects.get(one.key, [{}])
            for i, subject in enumerate(given):
                yield Component.of(self, one, subject, f"[{i + 1}]" if len(given) > 1 else "")


class Component(pytest.Collector):
    """Collects the checks of one component with one subject."""

    declared: Declared
    subject: Subject

    @classmethod
    def of(cls, parent: pytest.Collector, one: Declared, subject: Subject, suffix: str) -> Component:
        """Return the collector of a component, with a suffix that distinguishes its subjects."""
        made: Component = cls.from_parent(parent, name=one.key + suffix, nodeid=str(one) + suffix)
        made.declared, made.subject = one, subject
        return made

    def collect(self) -> Iterator[Check]:
        """Return the check `loads`, and all checks of the kit if the component loads."""
        try:
            made = _cases(self.declared, self.subject)
        except Exception as error:  # the component is anyone's code and may raise anything
            yield Check.of(self, "loads", _raising(error))
            return
        yield Check.of(self, "loads", lambda: None)
        for case in made:
            yield Check.of(self, case.name, case, case.reason)


class Check(pytest.Item):
    """Runs one check of one component."""

    check: Callable[[], None]

    @classmethod
    def of(cls, parent: pytest.Collector, name: str, check: Callable[[], None], reason: str | None = None) -> Check:
        """Return the test of a check. A check with a reason is expected to fail."""
        made: Check = cls.from_parent(parent, name=name)
        made.check = check
        if reason is not None:
            made.add_marker(pytest.mark.xfail(strict=True, raises=ConformanceError, reason=reason))
        return made

    def runtest(self) -> None:
        """Run the check, whether or not it is expected to fail."""
        self.check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the message of a failed check, or the frames outside the kit of any other error."""
        if isinstance(excinfo.value, (ConformanceError, HebmError)):
            return str(excinfo.value)
        return excinfo.getrepr(style="short", tbfilter=_outside)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return the heading of a failure: the full id of the test."""
        return self.path, None, self.nodeid


def _outside(excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    """Return the frames below this module that are outside the kit, or all frames if there are none."""
    below = excinfo.traceback.cut(path=__file__)
    return below.filter(lambda entry: _KIT not in Path(entry.path).parents) or below


def _raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


# ---------------------------------------------------------------- components and arguments


def _subjects(config: pytest.Config) -> dict[str, Sequence[Subject]]:
    """Check and return the result of `pytest_hebm_subjects`. Raises `ConfigError` if it is invalid."""
    found: dict[str, Sequence[Subject]] = {}
    known = {one.key for one in everything()}
    for given in config.hook.pytest_hebm_subjects():
        for key, value in given.items():
            if key not in known:
                hint = f"{did_you_mean(key, known)}; expected GROUP:NAME"
                raise ConfigError(f"no installed distribution declares {key!r}{hint}")
            if key in found:
                raise ConfigError(f"{key!r}: given by two hooks; give it once, with a list of all its mappings")
            found[key] = value if isinstance(value, (list, tuple)) else [value]
            for subject in found[key]:
                _check_subject(key, subject)
    return found


def _check_subject(key: str, subject: Any) -> None:
    allowed = f"a mapping with any of {', '.join(_OPTIONS)}"
    if not isinstance(subject, Mapping):
        raise ConfigError(f"{key!r}: expected {allowed}, or a list of mappings, got {subject!r}")
    for name in subject:
        if name not in _OPTIONS:
            raise ConfigError(f"{key!r}: unknown {name!r}{did_you_mean(name, _OPTIONS)}; expected {allowed}")


def _cases(one: Declared, subject: Subject) -> list[Case]:
    """Load a component and return its cases.

    Raises `PluginError` if it cannot be loaded or built, or if the subject is another component.
    """
    found = registry.find(one.group, one.name)
    rest = {name: value for name, value in subject.items() if name != "component"}
    component = subject["component"] if "component" in subject else _default(one, found)
    if found not in (component, type(component)):
        raise PluginError(f"pytest_hebm_subjects: {component!r} is not {one}; give an instance of {found!r}")
    return cases(component, **rest)


def _default(one: Declared, found: Any) -> Any:
    """Return a command itself, and any other component with its defaults."""
    if isinstance(found, click.Command):
        return found
    required = [field.name for field in fields_of(found) if field.default is attrs.NOTHING]
    if required:
        hint = f'{{"{one.key}": {{"component": {found.__name__}({required[0]}=…)}}}}'
        raise PluginError(
            f"{one} has no defaults for {', '.join(required)}; give its recipe in a conftest.py:\n"
            f"    def pytest_hebm_subjects():\n        return {hint}"
        )
    return found()
