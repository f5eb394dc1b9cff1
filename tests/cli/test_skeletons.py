"""The skeleton of each kind is a complete distribution that keeps the promises of its interface as it is written."""

import os
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner

from hebm import registry
from hebm.cli.kinds import KINDS
from hebm.cli.main import main

LONG = "a-rather-long-name-of-a-component"


def write(folder, name, kind):
    result = CliRunner().invoke(main, ["init", "--plugin", name, "--kind", kind, str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def visible(folder):
    """Put metadata next to the package, as an installation would."""
    found = project(folder)
    info = folder / f"{found['name'].replace('-', '_')}-{found['version']}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {found['name']}\nVersion: 0.1.0\n")
    groups = found["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups]
    info.joinpath("entry_points.txt").write_text("\n".join(lines))


def run(*arguments, cwd, path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def skeletons(tmp_path_factory):
    """A folder with the skeleton of each kind, all of them visible to the registry."""
    parent = tmp_path_factory.mktemp("skeletons")
    for kind in KINDS:
        visible(write(parent / kind, f"my-{kind}", kind))
    return parent


LOADS = """
import pytest
from hebm import Experiment, registry
from hebm.cli.kinds import KINDS

CHOSEN = {
    "energy": lambda experiment: experiment.prior.energy,
    "sampler": lambda experiment: experiment.prior.sampler,
    "dataset": lambda experiment: experiment.data,
    "extractor": lambda experiment: experiment.evaluate.extractors[0],
    "metric": lambda experiment: experiment.evaluate.metrics[0],
    "scheme": lambda experiment: experiment.train,
    "vae": lambda experiment: experiment.backbone,
}

@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "format"])
def test_example(kind):
    experiment = Experiment.load(f"{kind}/example.toml")
    if KINDS[kind].table:
        chosen = CHOSEN.get(kind, lambda experiment: getattr(experiment, kind))(experiment)
        assert registry.name_of(chosen) == f"my-{kind}"
"""


def test_every_kind_passes_its_kit_and_its_tests_and_its_example_names_the_component(skeletons):
    (skeletons / "test_examples.py").write_text(LOADS)
    own = ("-c", "energy/pyproject.toml", "--rootdir", ".")  # which asks for its own kit
    asked = [argument for kind in KINDS if kind != "energy" for argument in ("--hebm", f"hebm-my-{kind}")]
    tests = [f"{kind}/tests" for kind in KINDS]
    options = ("-v", "-p", "no:cacheprovider", *own, *asked)
    path = [skeletons / kind for kind in KINDS]
    done = run("pytest", *options, "test_examples.py", *tests, cwd=skeletons, path=path)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in KINDS:
        assert f"hebm-my-{kind}/" in done.stdout
        assert f"{kind}/tests/test_{kind}.py::" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_the_entry_points_are_the_component_and_the_interface(tmp_path, kind):
    write(tmp_path / "folder", "my-own", kind)
    points = project(tmp_path / "folder")["entry-points"]
    target = "command" if kind == "command" else "MyOwn"
    assert points == {
        KINDS[kind].group: {"my-own": f"hebm_my_own.{kind}:{target}"},
        "hebm_interface": {str(registry.INTERFACE): "hebm_my_own"},
    }
    assert (tmp_path / "folder" / "example.toml").exists() == (kind != "format")


def test_there_is_a_skeleton_for_every_group():
    assert {kind.group for kind in KINDS.values()} == set(registry.GROUPS)


@pytest.mark.parametrize("name", ["x", LONG])
def test_skeletons_are_clean_for_ruff(tmp_path, name):
    for kind in KINDS:
        write(tmp_path / kind, name, kind)
    for command in (["check"], ["format", "--check"]):
        done = run("ruff", *command, "--no-cache", ".", cwd=tmp_path, path=[])
        assert done.returncode == 0, done.stdout


def test_a_plugin_without_a_kind_is_a_prior(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["init", "--plugin", "my-own"]).exit_code == 0
    assert list(project(tmp_path / "hebm-my-own")["entry-points"]) == ["hebm_priors", "hebm_interface"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plugin", "own", "--kind", "metrics"], "did you mean 'metric'? (kinds: backbone, vae, energy, prior,"),
        (["--plugin", "own", "--kind", "data-set"], "did you mean 'dataset'?"),
        (["--kind", "metric"], "--kind metric needs --plugin NAME"),
        (["--plugin", "digits", "--kind", "dataset"], "already has a data set of this name"),
        (["--plugin", "joint", "--kind", "energy"], "already has a class Joint"),
        (["--plugin", "tensor"], "Tensor is already the name of a class of hebm"),
        (["--plugin", "none", "--kind", "metric"], "None is not a valid class name"),
    ],
)
def test_kinds_and_names_that_do_not_fit_are_errors_that_say_what_fits(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["init", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "format"])
def test_the_example_passes_hebm_check(skeletons, kind):
    done = run("hebm.cli.main", "check", "example.toml", cwd=skeletons / kind, path=["."])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ready: start it with" in done.stdout


@pytest.mark.slow
def test_an_installed_skeleton_is_found_by_pip_pytest_and_hebm(tmp_path):
    """In an environment of its own, which sees the packages of this one."""
    folder = write(tmp_path / "folder", "my-own", "sampler")
    assert run("venv", "--without-pip", tmp_path / "venv", cwd=tmp_path, path=[]).returncode == 0
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    site.joinpath("others.pth").write_text("\n".join(f"import site; site.addsitedir({p!r})" for p in sys.path if p))
    python = str(tmp_path / "venv" / "bin" / "python")
    steps = (
        ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "."],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider"],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "--hebm", "hebm-my-own"],
        ["-m", "hebm.cli.main", "plugins", "my-own"],
    )
    for step in steps:
        done = subprocess.run([python, *step], cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "hebm-my-own 0.1.0" in done.stdout
