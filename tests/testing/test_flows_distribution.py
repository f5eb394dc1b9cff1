"""hebm-flows is a distribution of its own: it is built and installed by pip, and its tests pass with its wheel."""

import tomllib
from pathlib import Path

import pytest
from installed import copied, installed, python

from hebm.registry import INTERFACE

FLOWS = Path(__file__).parents[2] / "plugins" / "hebm-plugin-flows"


def test_it_declares_this_interface():
    points = tomllib.loads((FLOWS / "pyproject.toml").read_text())["project"]["entry-points"]
    assert list(points["hebm_interface"]) == [str(INTERFACE)]


def test_the_tests_of_hebm_install_what_it_needs():
    root, own = (tomllib.loads((path / "pyproject.toml").read_text())["project"] for path in (FLOWS.parents[1], FLOWS))
    assert set(own["dependencies"]) - {"hebm"} <= set(root["optional-dependencies"]["dev"])


PLANNED = """
from pathlib import Path

from hebm.config.sweep_file import Sweep
from hebm.report.measured_rows import read_rows
from hebm.sweeps.planning import plan

runs = plan(Sweep.load("benchmarks/flow-mnist.toml"))
names = {f"flow-mnist-{run.variant}" for run in runs}
assert {row.name for row in read_rows(Path("benchmarks/flow-mnist.measurements"))} <= names
print(*(run.name for run in runs if run.needs))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The distribution as someone downloaded it."""
    return copied(FLOWS, tmp_path_factory.mktemp("flows"))


@pytest.fixture(scope="module")
def site(copy, tmp_path_factory):
    """A folder with its wheel installed; its sources are gone afterwards."""
    return installed(copy, tmp_path_factory.mktemp("site"))


def test_its_own_tests_and_the_conformance_checks_pass_once_it_is_installed(copy, site):
    done = python("-m", "pytest", "-v", "-p", "no:cacheprovider", "tests", cwd=copy, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("test_flow.py::test_priors_are_found_by_name[flow-Flow]", "priors:layer-flow[2]::log-z"):
        assert f"{name} PASSED" in done.stdout


def test_its_sweep_can_be_planned_and_its_measurements_are_rows_of_it(copy, site):
    done = python("-c", PLANNED, cwd=copy, site=site)
    assert done.returncode == 0, done.stderr
    assert "flow-mnist-flow-0" in done.stdout.split()
