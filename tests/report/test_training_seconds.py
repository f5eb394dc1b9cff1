"""Seconds of training, split into those of the backbone and those of the prior."""

import json

import pytest
from finished_run import finished_run

from hebm.report.comparison import compared
from hebm.report.training_seconds import training_seconds
from hebm.store import sums
from hebm.stored_runs import read_run


def logged(folder, *phases):
    """Give a run a log of phases: (module that is trained, steps, steps per second)."""
    total, lines = 0, []
    for modules, steps, speed in phases:
        total += steps
        rates = {f"learning_rate_{module}": 0.1 for module in modules}
        lines.append(json.dumps({"phase": "+".join(modules), "total_step": total, "steps_per_second": speed, **rates}))
    folder.metrics_log.write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def whole(tmp_path):
    return logged(
        finished_run(tmp_path, "whole", with_samples=False), (("backbone",), 100, 10.0), (("prior",), 30, 1.0)
    )


def test_what_training_took_is_divided_as_the_log_says(whole):
    found = training_seconds(read_run(whole.path), None)
    assert found == pytest.approx((2.5 / 4, 2.5 * 3 / 4))  # metrics.json says 2.5 in all


def test_the_seconds_of_a_backbone_are_those_of_the_run_that_trained_it(tmp_path, whole):
    folder = logged(finished_run(tmp_path, "taking", with_samples=False), (("prior",), 30, 1.0))
    for place, backbone in ((whole.path, 2.5 / 4), (tmp_path / "gone", None)):
        text = folder.config.read_text().partition("backbone_from")[0] + f'backbone_from = "{place}"\n'
        sums.write(folder.path, {sums.CONFIG: text.encode()})
        assert compared(folder).taken == (backbone, 2.5)


def test_modules_that_are_trained_at_once_and_a_log_without_times_are_not_divided(tmp_path):
    folder = finished_run(tmp_path, with_samples=False)
    assert training_seconds(read_run(folder.path), None) == (None, None)
    logged(folder, (("backbone", "prior"), 10, 1.0))
    assert training_seconds(read_run(folder.path), None) == (None, None)
