"""R5: signals that ask a real `hebm run` to stop."""

import signal

import pytest
from real_runs import (
    differences,
    fork_server,
    hebm,
    log,
    merged,
    newest,
    tiny,
    train,
    wait_for,
    wait_for_lines,
    write_config,
)

TABLE = merged(
    tiny(), {"train": {"backbone": {"steps": 100}, "prior": {"steps": 100}}, "run": {"checkpoint_every": 1000}}
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    assert train(TABLE, folder)
    return folder


@pytest.mark.parametrize(
    ("number", "lines"), [(signal.SIGTERM, 10), (signal.SIGINT, 110), (signal.SIGUSR1, 20), (signal.SIGHUP, 15)]
)
def test_a_signal_saves_within_one_step_and_the_run_goes_on_as_if_nothing_had_been(tmp_path, whole, number, lines):
    config, run = write_config(tmp_path, TABLE), tmp_path / "tiny"
    process = fork_server().hebm("run", config, "--runs", tmp_path)
    wait_for_lines(run, lines, process)
    process.send(number)
    assert process.end() == 128 + number
    saved = newest(run).total_step
    assert saved == log(run)[-1]["total_step"] < 200
    note = f"note: stopped by signal {int(number)}, saved at step {saved}; start the run again to continue"
    assert note in process.stderr
    assert "Traceback" not in process.stderr
    again = hebm("run", config, "--runs", tmp_path)
    assert again.status == 0, again.stderr
    assert f"step {saved - 100 * (saved > 100)} of 100" in again.stderr
    assert differences(run, whole) == []


def test_a_signal_while_batches_are_made_in_the_background_saves_too(tmp_path):
    table = merged(TABLE, {"data": {"workers": 1}, "train": {"backbone": {"steps": 10**6}}})
    process = fork_server().hebm("run", write_config(tmp_path, table), "--runs", tmp_path)
    wait_for_lines(tmp_path / "tiny", 5, process)
    process.send(signal.SIGTERM)
    assert process.end() == 128 + signal.SIGTERM
    assert newest(tmp_path / "tiny").total_step == log(tmp_path / "tiny")[-1]["total_step"]


SLOW_METRIC = """\
import time
from pathlib import Path

from hebm.config.recipes import recipe
from hebm.evaluation.metric import Measurement, MetricRecipe


@recipe
class Slow(MetricRecipe):
    \"\"\"Takes long the first time.\"\"\"

    def compute(self, evaluation):
        mark = Path(__file__).with_name("evaluating")
        if not mark.exists():
            mark.touch()
            time.sleep(60)
        return [Measurement("slow", 1.0, "slow")]
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_evaluation_ends_it_and_the_next_run_evaluates_again(tmp_path, plugin, number):
    path = plugin("hebm_metrics", "slow", "plug_slow_metric:Slow", SLOW_METRIC)
    config = write_config(tmp_path, tiny(evaluate={"metrics": ["slow"]}))
    process = fork_server().hebm("run", config, "--runs", tmp_path, path=[path])
    wait_for(lambda: (path / "evaluating").exists(), 60, process)
    process.send(number)
    assert process.end(20) == (130 if number == signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "tiny" / "metrics.json").exists()
    again = hebm("run", config, "--runs", tmp_path, path=[path])
    assert again.status == 0, again.stderr
    assert "backbone 1/6" not in again.stderr
    assert "slow" in again.stdout
