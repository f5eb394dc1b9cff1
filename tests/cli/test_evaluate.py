"""`hebm evaluate`: other measurements of the same run, and nothing else."""

import json
import shutil

import pytest
from real_runs import hebm, log, steps_saved, tiny, train, write_config

from hebm import open_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert hebm("run", write_config(folder, tiny()), "--runs", folder).status == 0
    return folder / "tiny"


@pytest.fixture
def run(tmp_path, finished):
    return shutil.copytree(finished, tmp_path / "tiny")


def test_other_settings_rewrite_the_metrics_and_leave_the_training_alone(run):
    before = log(run), steps_saved(run)
    process = hebm("evaluate", run, "--set", "evaluate.samples=192", "--set", "evaluate.split=test")
    assert process.status == 0, process.stderr
    conditions = json.loads((run / "metrics.json").read_text())["conditions"]
    assert (conditions["n"], conditions["split"]) == (192, "test")
    assert "n 192" in process.stdout
    assert (log(run), steps_saved(run)) == before
    assert "samples = 192" in (run / "config.toml").read_text()


def test_a_named_evaluation_is_kept_next_to_the_one_without_a_name(run):
    before = (run / "metrics.json").read_text(), (run / "config.toml").read_text()
    process = hebm("evaluate", run, "--name", "k3", "--set", "evaluate.chain_steps=3")
    assert process.status == 0, process.stderr
    assert ((run / "metrics.json").read_text(), (run / "config.toml").read_text()) == before
    named = json.loads((run / "evaluations" / "k3.json").read_text())
    assert named["conditions"]["chain_steps"] == named["evaluate"]["chain_steps"] == 3
    assert list(open_run(run).evaluations) == ["k3"]
    page = (run / "report.html").read_text()
    assert "<th>k3</th>" in page.replace("\n", "")
    assert "evaluations/k3.json" in hebm("verify", run).stdout
    assert hebm("compare", run).stdout.count("tiny") == 2
    (refused,) = [hebm("evaluate", run, "--name", "../k3")]
    assert refused.status == 2
    assert "is not allowed; use letters" in refused.stderr


def test_the_measurements_are_printed_as_one_json_object(run):
    process = hebm("evaluate", run, "--set", 'evaluate.metrics=["likelihood"]', "--name", "again", "--json")
    assert process.status == 0, process.stderr
    found = json.loads(process.stdout)
    written = json.loads((run / "evaluations" / "again.json").read_text())
    assert (found.pop("run"), found.pop("name")) == (str(run), "again")
    assert found == {key: written[key] for key in found}
    assert found["measurements"][0]["value"] is not None


@pytest.mark.parametrize("change", ["prior.sampler.steps=5", "seed=1", "train.backbone.steps=7"])
def test_what_decided_the_weights_cannot_be_changed(run, change):
    before = (run / "metrics.json").read_text(), (run / "config.toml").read_text()
    process = hebm("evaluate", run, "--set", change, "--allow-changes")
    assert process.status == 2
    assert change.partition("=")[0] in process.stderr
    assert ((run / "metrics.json").read_text(), (run / "config.toml").read_text()) == before


def test_a_run_that_is_not_finished_is_not_evaluated_as_if_it_were(tmp_path):
    assert not train(tiny(), tmp_path / "tiny", stop_after=9)
    process = hebm("evaluate", tmp_path / "tiny")
    assert process.status == 1
    assert "is unfinished: it is at step 3 of 6 in phase 'prior'; finish it with hebm run" in process.stderr
    assert not (tmp_path / "tiny" / "metrics.json").exists()


def test_an_unfinished_run_is_evaluated_if_asked_for_and_its_numbers_say_so(tmp_path):
    table = tiny(evaluate={"metrics": ["likelihood"]})
    assert not train(table, tmp_path / "tiny", stop_after=9)
    process = hebm("evaluate", tmp_path / "tiny", "--allow-unfinished")
    assert process.status == 0, process.stderr
    assert "unfinished: step 3 of 6 in phase 'prior'" in process.stdout
    measured = json.loads((tmp_path / "tiny" / "metrics.json").read_text())
    assert measured["conditions"]["unfinished"] == "step 3 of 6 in phase 'prior'"
    process = hebm("run", tmp_path / "tiny" / "config.toml", "--quiet")  # it goes on, and is measured again
    assert process.status == 0, process.stderr
    assert "unfinished" not in json.loads((tmp_path / "tiny" / "metrics.json").read_text())["conditions"]


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    process = hebm("evaluate", tmp_path)
    assert process.status == 1
    assert "manifest.json" in process.stderr
