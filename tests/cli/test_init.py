import pytest
from click.testing import CliRunner

from hebm import registry
from hebm.cli.main import main
from hebm.config.experiment import Experiment
from hebm.config.writing import dumps


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(main, ["init", *arguments])


def test_the_starter_configuration_loads_as_it_stands(here):
    result = invoke()
    assert result.exit_code == 0, result.output
    experiment = Experiment.load(here / "experiment.toml")
    assert dumps(experiment)
    types = [registry.name_of(part) for part in (experiment.data, experiment.backbone, experiment.prior)]
    assert types == ["digits", "two-layer", "joint"]


def test_the_commented_keys_of_the_starter_configuration_are_keys(here):
    invoke("mine")
    text = (here / "mine.toml").read_text(encoding="utf-8")
    for line in (
        "# [train]",
        '# type = "two-phase"',
        "# backbone = {",
        "# prior = {",
        "# [run]",
        "# device",
        "# mixed_p",
    ):
        assert line in text
        text = text.replace(line, line[2:])
    (here / "mine.toml").write_text(text, encoding="utf-8")
    assert Experiment.load(here / "mine.toml").name == "mine"


def test_nothing_is_overwritten(here):
    (here / "experiment.toml").write_text("mine")
    result = invoke()
    assert (result.exit_code, (here / "experiment.toml").read_text()) == (2, "mine")
    assert "refusing to overwrite experiment.toml" in result.stderr
    (here / "hebm-own").mkdir()
    (here / "hebm-own" / "README.md").write_text("mine")
    assert invoke("--plugin", "own").exit_code == 2
    assert [path.name for path in (here / "hebm-own").iterdir()] == ["README.md"]


@pytest.mark.parametrize("name", ["Own", "own_prior", "-own", "a/b", "", "joint"])
def test_a_plugin_name_that_is_not_lower_kebab_or_taken_is_refused(here, name):
    assert invoke("--plugin", name).exit_code == 2
    assert not list(here.iterdir())
