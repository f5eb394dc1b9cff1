from __future__ import annotations

import json

import pytest
from tiny_models import LinearBackbone, RootPrior, ShiftedPrior, tiny_evaluation

from hebm.config.recipe import recipe
from hebm.errors import PluginError
from hebm.evaluate.metric import MetricRecipe
from hebm.evaluate.result import evaluate
from hebm_plugins.extractors import classifier


@recipe
class Says(MetricRecipe):
    value: float = 1.0

    def compute(self, evaluation):
        return {"group": {"figure": self.value}}


@pytest.fixture(autouse=True)
def _short_training(monkeypatch):
    monkeypatch.setattr(classifier, "_STEPS", 60)


def default_metrics():
    from hebm_plugins.metrics.distances import FrechetDistance
    from hebm_plugins.metrics.gap import GapClosed

    return FrechetDistance(), GapClosed()


def test_metrics_json_has_the_promised_keys(tmp_path):
    result = json.loads(json.dumps(evaluate(tiny_evaluation(tmp_path, metrics=default_metrics())), allow_nan=False))
    assert set(result["fd"]) == {
        "gaussian",
        "prior",
        "reconstruction",
        "scaled_gaussian",
        "scaled_gaussian_temperature",
    }
    assert {"name", "sha256", "accuracy"} <= set(result["extractor"])
    assert result["n"] == result["n_reference"] == 300
    assert {"gap_closed", "gap_closed_scaled_gaussian", "split", "decode", "range", "seconds", "versions"} <= set(
        result
    )
    assert all(isinstance(value, float) for value in result["fd"].values())
    assert isinstance(result["gap_closed"], float)


def test_a_prior_that_fits_the_data_closes_the_gap(tmp_path):
    result = evaluate(tiny_evaluation(tmp_path, metrics=default_metrics()))
    assert result["gap_closed"] > 0.7
    assert result["gap_closed"] > result["gap_closed_scaled_gaussian"]
    fd = result["fd"]
    assert result["gap_closed"] == pytest.approx(
        (fd["gaussian"] - fd["prior"]) / (fd["gaussian"] - fd["reconstruction"])
    )


def test_the_gaussian_prior_closes_nothing(tmp_path):
    prior = RootPrior(LinearBackbone().layout)
    assert evaluate(tiny_evaluation(tmp_path, prior=prior, metrics=default_metrics()))["gap_closed"] == 0


def test_the_control_is_the_best_temperature(tmp_path):
    evaluation = tiny_evaluation(tmp_path, metrics=default_metrics(), temperatures=(0.5, 1.4, 2.0))
    fd = evaluate(evaluation)["fd"]
    tried = {t: evaluation.distance(("gaussian", t)) for t in (0.5, 1.4, 2.0)} | {1.0: fd["gaussian"]}
    assert fd["scaled_gaussian"] == min(tried.values())
    assert tried[fd["scaled_gaussian_temperature"]] == fd["scaled_gaussian"]


def test_a_prior_worse_than_the_gaussian_is_negative(tmp_path):
    prior = ShiftedPrior(LinearBackbone().layout, -2.0)
    assert evaluate(tiny_evaluation(tmp_path, prior=prior, metrics=default_metrics()))["gap_closed"] < 0


def test_metrics_that_disagree_are_an_error(tmp_path):
    assert evaluate(tiny_evaluation(tmp_path, metrics=(Says(), Says())))["group"] == {"figure": 1.0}
    with pytest.raises(PluginError, match=r"group\.figure"):
        evaluate(tiny_evaluation(tmp_path, metrics=(Says(), Says(value=2.0))))
