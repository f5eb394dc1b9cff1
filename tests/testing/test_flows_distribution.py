"""hebm-flows is a distribution of its own: it is built and installed by pip, and its tests pass with its wheel."""

import tomllib
from pathlib import Path

from installed import copied, installed, python

from hebm.registry import INTERFACE

FLOWS = Path(__file__).parents[2] / "plugins" / "hebm-plugin-flows"


def test_it_declares_this_interface():
    points = tomllib.loads((FLOWS / "pyproject.toml").read_text())["project"]["entry-points"]
    assert list(points["hebm_interface"]) == [str(INTERFACE)]


def test_the_tests_of_hebm_install_what_it_needs():
    root, own = (tomllib.loads((path / "pyproject.toml").read_text())["project"] for path in (FLOWS.parents[1], FLOWS))
    assert set(own["dependencies"]) - {"hebm"} <= set(root["optional-dependencies"]["dev"])


def test_its_own_tests_and_the_conformance_checks_pass_once_it_is_installed(tmp_path):
    copy = copied(FLOWS, tmp_path)
    site = installed(copy, tmp_path / "site")
    done = python("-m", "pytest", "-v", "-p", "no:cacheprovider", "tests", cwd=copy, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("test_flow.py::test_priors_are_found_by_name[flow-Flow]", "priors:layer-flow[2]::log-z"):
        assert f"{name} PASSED" in done.stdout
