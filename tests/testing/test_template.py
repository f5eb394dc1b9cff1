"""The template is a distribution that anyone can build, install and use by name."""

import tomllib
from pathlib import Path

import pytest
from installed import copied, installed, python

from hebm.registry import INTERFACE

TEMPLATE = Path(__file__).parents[2] / "plugins" / "hebm-plugin-template"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The template as someone copied it."""
    return copied(TEMPLATE, tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="module")
def site(copy, tmp_path_factory):
    """A folder with the template's wheel installed; its sources are gone afterwards."""
    return installed(copy, tmp_path_factory.mktemp("site"))


def test_it_declares_this_interface():
    points = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]["entry-points"]
    assert list(points["hebm_interface"]) == [str(INTERFACE)]


def test_its_own_tests_pass_once_it_is_installed(copy, site):
    done = python("-m", "pytest", "-v", "-p", "no:cacheprovider", "tests", cwd=copy, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/test_prior.py::test_it_is_found_by_name PASSED" in done.stdout
    assert "hebm-quadratic-tilt/priors:quadratic-tilt::density PASSED" in done.stdout


def test_it_is_listed_with_its_origin(copy, site):
    done = python("-m", "hebm.cli.main", "plugins", "quadratic-tilt", cwd=copy, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hebm-quadratic-tilt" in done.stdout
    assert "sampler" in done.stdout


@pytest.mark.parametrize("scheme", ["two-phase", pytest.param("joint", marks=pytest.mark.slow)])
def test_a_file_that_names_it_runs(copy, site, tmp_path, scheme):
    # one of the two measures as well
    steps = {
        "two-phase": {"train.backbone.steps": 4, "train.prior.steps": 4},
        "joint": {"train.steps": 4, "evaluate.metrics": []},
    }
    values = {
        "train.type": f'"{scheme}"',
        **steps[scheme],
        "data.limit": 256,
        "evaluate.samples": 128,
        "run.cache_folder": f'"{(tmp_path / "cache").as_posix()}"',
    }
    text = (copy / "example.toml").read_text()
    (tmp_path / "example.toml").write_text(text if scheme == "two-phase" else text.partition("[train]")[0])
    chosen = [argument for key, value in values.items() for argument in ("--set", f"{key}={value}")]
    done = python("-m", "hebm.cli.main", "run", "example.toml", *chosen, cwd=tmp_path, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "digits-quadratic-tilt"
    assert 'type = "quadratic-tilt"' in (run / "config.toml").read_text()
    assert "hebm-quadratic-tilt" in (run / "manifest.json").read_text()
    assert (run / "metrics.json").is_file()


def test_the_prior_is_short():
    source = (TEMPLATE / "src" / "hebm_quadratic_tilt" / "prior.py").read_text()
    methods = [line for line in source.partition("class QuadraticTiltPrior")[2].splitlines() if "    def " in line]
    assert [line.split("(")[0].split()[-1] for line in methods[1:4]] == ["tilt", "transitions", "objective"]
    assert len(source.partition("class Quadratic(")[2].splitlines()) < 65
