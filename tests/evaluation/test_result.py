from __future__ import annotations

import re

import pytest
import torch
from tiny_models import LinearBackbone, RootPrior, ShiftedPrior, numbers, tiny_evaluation

from hebm.adaptation import Adaptation
from hebm.config.recipes import recipe
from hebm.errors import NonFiniteError
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.evaluation.result import evaluate
from hebm.training.run_state import Stopped
from hebm_plugins.extractors import classifier
from hebm_plugins.metrics.active_units import ActiveUnits


@recipe
class Says(MetricRecipe):
    value: float = 1.0
    title: str = "figure"

    def compute(self, evaluation):
        return [Measurement("figure", self.value, self.title), Measurement("nothing", None, "nothing")]


@recipe
class NotFinite(MetricRecipe):
    """Finds a value that is not finite."""

    value: str = "nan"

    def compute(self, evaluation):
        return [Measurement("figure", float(self.value), "figure")]


@recipe
class Mixed(MetricRecipe):
    """Two kinds of one name in different units."""

    def compute(self, evaluation):
        return [
            Measurement("size", 1.0, "size", unit=unit, kind=kind) for unit, kind in (("m", "data"), ("cm", "prior"))
        ]


@recipe
class Returns(MetricRecipe):
    """A metric that does not return measurements."""

    what: str = "mapping"

    def compute(self, evaluation):
        return {"mapping": {"fd": 3.0}, "number": 3.0, "single": Measurement("a", 1.0, "a")}[self.what]


@recipe
class Raises(MetricRecipe):
    """A metric whose compute raises the given error."""

    error: str = "plain"

    def compute(self, evaluation):
        raise ERRORS[self.error]


ERRORS = {
    "plain": ValueError("math domain error\nmore"),
    "ours": NonFiniteError("3 images are not finite"),
    "memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "silent": KeyError(),
    "stopped": Stopped(15, 3),
    "interrupt": KeyboardInterrupt(),
}


@pytest.fixture(autouse=True)
def _short_training(monkeypatch):
    monkeypatch.setattr(classifier, "_ROUNDS", 1)


def default_metrics():
    from hebm_plugins.metrics.distances import FrechetDistance
    from hebm_plugins.metrics.gap import GapClosed

    return FrechetDistance(), GapClosed()


def found(tmp_path, **options):
    return numbers(evaluate(tiny_evaluation(tmp_path, metrics=default_metrics(), **options)).measurements)


def test_results_hold_measurements_and_what_they_must_be_read_with(tmp_path):
    results = evaluate(tiny_evaluation(tmp_path, metrics=default_metrics()))
    fd = {m.kind for m in results.measurements if m.name == "fd"}
    assert fd == {"gaussian", "prior", "reconstruction", "scaled-gaussian"}
    assert {"name", "sha256", "accuracy"} <= set(results.extractors["classifier"])
    assert results.conditions["n"] == results.conditions["n_reference"] == 300
    conditions = results.conditions_of(results.get("fd", "prior"))
    assert set(conditions) == {"n", "n_reference", "split", "decode", "range", "extractor"}
    assert conditions["extractor"].startswith("classifier ")
    assert results.seconds > 0


def test_a_prior_that_fits_the_data_closes_the_gap(tmp_path):
    result = found(tmp_path)
    closed, gaussian = result["gap-closed.prior"], result["fd.gaussian"]
    assert closed > 0.7
    assert closed > result["gap-closed.scaled-gaussian"]
    assert closed == pytest.approx((gaussian - result["fd.prior"]) / (gaussian - result["fd.reconstruction"]))


def test_the_gaussian_prior_closes_nothing(tmp_path):
    prior = RootPrior(LinearBackbone().layout)
    assert found(tmp_path, prior=prior)["gap-closed.prior"] == 0


def test_the_control_is_the_best_temperature(tmp_path):
    evaluation = tiny_evaluation(tmp_path, metrics=default_metrics(), temperatures=(0.5, 1.4, 2.0))
    result = numbers(evaluate(evaluation).measurements)
    tried = [result["fd.gaussian"], *(evaluation.distance(("gaussian", t)) for t in (0.5, 1.4, 2.0))]
    assert result["fd.scaled-gaussian"] <= min(tried)
    found = evaluation.distance(("gaussian", result["temperature.scaled-gaussian"]))
    assert result["fd.scaled-gaussian"] == found


def test_a_prior_worse_than_the_gaussian_is_negative(tmp_path):
    prior = ShiftedPrior(LinearBackbone().layout, -2.0)
    assert found(tmp_path, prior=prior)["gap-closed.prior"] < 0


def test_metrics_that_agree_on_a_measurement_give_it_once_and_those_that_disagree_are_an_error(tmp_path):
    results = evaluate(tiny_evaluation(tmp_path, metrics=(Says(), Says())))
    assert [m.name for m in results.measurements] == ["figure", "nothing"]
    for other, reason in ((Says(value=2.0), "value = 2.0, not 1.0"), (Says(title="other"), "title = 'other'")):
        results = evaluate(tiny_evaluation(tmp_path, metrics=(Says(), other)))
        (failed,) = results.failures
        assert f"Says returns figure with {reason}" in failed.reason
        assert results.get("figure").value == 1  # of the first


@pytest.mark.parametrize("what", ["mapping", "number", "single"])
def test_a_metric_that_returns_anything_else_is_named_with_what_it_must_return(tmp_path, what):
    (failed,) = evaluate(tiny_evaluation(tmp_path, metrics=(Returns(what=what),))).failures
    assert failed.metric == "Returns"
    assert re.search(r"Returns.*must return a list of hebm\.evaluation\.metric\.Measurement", failed.reason)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("plain", r"ValueError: math domain error$"),
        ("ours", r"3 images are not finite$"),
        ("memory", r"out of memory \(CUDA .*\); use a smaller evaluate\.batch_size than 512, or fewer .* than 300$"),
        ("cpu", r"out of memory \(DefaultCPUAllocator.*\); use a smaller"),
        ("silent", r"KeyError: no message$"),
    ],
)
def test_a_metric_that_fails_is_told_with_its_reason_and_the_others_are_measured(tmp_path, error, reason):
    results = evaluate(tiny_evaluation(tmp_path, metrics=(Raises(error=error), Says())))
    (failed,) = results.failures
    assert failed.metric == "Raises"
    assert re.match(reason, failed.reason)
    assert "raise ERRORS[self.error]" in failed.traceback
    assert results.get("figure").value == 1


def test_a_request_to_stop_is_not_taken_for_a_failure(tmp_path):
    for error, kind in (("stopped", Stopped), ("interrupt", KeyboardInterrupt)):
        with pytest.raises(kind):
            evaluate(tiny_evaluation(tmp_path, metrics=(Raises(error=error), Says())))


def test_with_several_processes_an_error_is_raised_because_the_others_may_wait(tmp_path):
    with pytest.raises(ValueError, match="math domain"):
        evaluate(tiny_evaluation(tmp_path, metrics=(Raises(), Says()), world=2, gather=lambda x: torch.cat([x, x])))


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_value_that_is_not_finite_is_undefined_and_says_so(tmp_path, value):
    found = evaluate(tiny_evaluation(tmp_path, metrics=(NotFinite(value=value),))).get("figure")
    assert found.note == f"undefined: the value that was computed is {value}"
    assert found.to_json()["value"] is None


def test_draws_that_are_not_finite_fail_only_the_metrics_that_need_them(tmp_path):
    prior = ShiftedPrior(LinearBackbone().layout, 1.0, broken=(3,))
    results = evaluate(tiny_evaluation(tmp_path, prior, metrics=(*default_metrics(), ActiveUnits())))
    assert [failed.metric for failed in results.failures] == ["fd", "gap-closed"]
    assert "1 of 300 images of kind 'prior' are not finite" in results.failures[0].reason
    assert results.get("active-units") is not None


def test_kinds_of_one_name_must_have_one_unit_title_and_direction(tmp_path):
    results = evaluate(tiny_evaluation(tmp_path, metrics=(Mixed(), Says())))
    assert re.search(r"named 'size' must have the same.*'m'.*'cm'", results.failures[0].reason)
    assert [item.name for item in results.measurements] == ["figure", "nothing"]


def test_adapted_step_sizes_are_among_the_details_with_their_transition(tmp_path):
    evaluation = tiny_evaluation(tmp_path, metrics=(Says(),))
    evaluation.model.adaptations["stage 1"] = Adaptation(0.25, 0.6)
    found = evaluate(evaluation)
    values = [found.get(name, "prior", "stage 1").value for name in ("draws-step-size", "draws-acceptance")]
    assert values == [0.25, 0.6]


def test_what_the_prior_reports_of_its_draws_is_among_the_details(tmp_path, monkeypatch):
    evaluation = tiny_evaluation(tmp_path, metrics=(Says(),))
    monkeypatch.setattr(evaluation, "diagnostics", lambda: {"ess_layer 0": 0.25})
    detail = evaluate(evaluation).get("draws-ess-layer-0", "prior")
    assert (detail.value, detail.title, detail.detail) == (0.25, "draws: ess layer 0", True)
