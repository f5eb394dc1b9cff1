"""How far the runs of a sweep are, and how long the rest takes."""

import sys
from pathlib import Path

import attrs
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from finished_run import results
from real_runs import train
from small_sweeps import planned

from hebm.config.writing import dumps, to_table
from hebm.errors import ConfigError
from hebm.store import sums
from hebm.sweeps.stages import estimates, stages_of

PLAN = {"backbone": 6, "prior": 6}


def started(run, plan=PLAN, seconds=None, **changes):
    """A folder as a run leaves it: started, and measured if it took some seconds."""
    manifest = {"hebm": "0.1", "plugins": {}, "data": {}, "phases": plan}
    run.folder.create_or_open(dumps(attrs.evolve(run.experiment, **changes)), manifest)
    if seconds is not None:
        run.folder.write_metrics(attrs.evolve(results(), seconds=seconds, seconds_training=seconds / 2).to_json())
        run.folder.report.touch()


def test_stages_are_told_from_the_folders(tmp_path):
    new, bare, measured, *_ = runs = planned(tmp_path)
    started(bare)
    started(measured, {}, 8.0)
    assert list(stages_of(runs).values()) == ["new", "unfinished", "finished", "new"]
    assert not new.folder.path.exists()


def test_a_trained_run_and_one_to_be_measured_in_another_way_are_trained(tmp_path):
    (run, *_), again = planned(tmp_path), planned(tmp_path, changes=["evaluate.samples=64"])[0]
    assert train(to_table(run.experiment), run.folder.path)
    assert stages_of([run]) == {run.name: "trained"}
    run.folder.write_metrics(results().to_json())
    run.folder.report.touch()
    assert stages_of([run]) == {run.name: "finished"}
    assert stages_of([again]) == {run.name: "trained"}


def test_folders_with_another_experiment_are_all_named_before_anything_runs(tmp_path):
    runs = planned(tmp_path)
    for run in runs[:2]:
        started(run, seed=7)
    with pytest.raises(ConfigError) as caught:
        stages_of(runs)
    said = str(caught.value)
    assert all(f"{run.folder.path} holds another experiment" in said for run in runs[:2])
    assert "seed: 7 → 0" in said
    assert "give the sweep another `name`" in said


def test_time_is_that_of_runs_that_differ_in_seed_and_backbone_alone(tmp_path):
    joint, gaussian, other, more = runs = planned(tmp_path)
    started(joint, {}, 8.0)
    started(gaussian, {}, 4.0)
    started(more)  # no step is done yet
    found = estimates(runs, stages_of(runs))
    assert list(found.values()) == [0.0, 0.0, 8.0, 4.0]
    assert estimates(runs, {**stages_of(runs), other.name: "trained"})[other.name] == 4.0


def test_a_run_that_is_older_than_a_key_is_finished_and_tells_the_time_as_if_it_had_the_default(tmp_path):
    joint, _, other, _ = runs = planned(tmp_path)
    started(joint, {}, 8.0)
    text = joint.folder.config.read_text()
    older = "".join(line for line in text.splitlines(True) if not line.startswith(("decode", "keep")))
    assert len(older) < len(text)
    sums.write(joint.folder.path, {sums.CONFIG: older.encode()})
    stages = stages_of(runs)
    assert stages[joint.name] == "finished"
    assert estimates(runs, stages)[other.name] == 8.0


def test_time_is_unknown_without_such_a_run(tmp_path):
    runs = planned(tmp_path)
    started(runs[0], {}, 8.0)
    longer = planned(tmp_path, changes=["train.backbone.steps=9"], name="longer")
    assert set(estimates(longer, {run.name: "new" for run in longer}).values()) == {None}
