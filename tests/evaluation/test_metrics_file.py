import json
import math
from pathlib import Path

import pytest

from hebm.errors import CheckpointError
from hebm.evaluation.metric import Measurement
from hebm.evaluation.metrics_file import Results, from_json
from hebm.store.metrics import json_bytes

FD = Measurement("fd", 8.918, "Fréchet distance", kind="prior", better="lower", conditions={"extractor": "classifier"})
ELBO = Measurement("elbo", -1 / 3, "ELBO", 0.125, "nats", conditions={"n": 7})
CONDITIONS = {
    "n": 100,
    "n_reference": 90,
    "split": "train",
    "decode": "mean",
    "range": "[-1, 1]",
    "seed": 0,
    "extractors": {"classifier": {"name": "classifier", "sha256": "abc", "accuracy": 0.9}},
}
RESULTS = Results((FD, ELBO), CONDITIONS, 2.5, 1.5)


PATH = Path("metrics.json")


def test_what_is_written_is_read_back():
    assert from_json(json.loads(json_bytes(RESULTS.to_json())), PATH) == RESULTS


def test_what_is_not_finite_is_null_in_the_file():
    found = Results((Measurement("a", math.nan, "a", conditions={"t": math.inf}),), {"x": math.nan})
    read = from_json(json.loads(json_bytes(found.to_json())), PATH)
    assert not read.measurements[0].found
    assert (read.measurements[0].conditions, read.conditions) == ({"t": None}, {"x": None})


def test_a_measurement_is_found_by_name_kind_and_part():
    assert RESULTS.get("fd", "prior") is FD
    assert RESULTS.get("elbo") is ELBO
    assert RESULTS.get("fd") is RESULTS.get("elbo", part="layer 1") is None


def test_numbers_about_images_depend_on_the_draws_and_others_only_on_their_own_conditions():
    of_images = {key: CONDITIONS[key] for key in ("n", "n_reference", "split", "decode", "range")}
    assert RESULTS.conditions_of(FD) == {**of_images, "extractor": "classifier abc"}
    assert RESULTS.conditions_of(ELBO) == {"n": 7}


def test_a_metrics_own_number_of_images_replaces_the_runs():
    own = Measurement("agreement", 0.5, "agreement", kind="prior", conditions={"n": 7})
    assert RESULTS.conditions_of(own)["n"] == 7


def test_training_time_is_added():
    both = Results(seconds=1.5).after_training(2.0)
    assert (both.seconds, both.seconds_training) == (3.5, 2.0)


def changed(**changes):
    return {**RESULTS.to_json(), **changes}


def measurement(**changes):
    return changed(measurements=[{**FD.to_json(), **changes}])


UNKNOWN_FIELD, NO_TITLE = measurement(colour="red"), measurement()
del NO_TITLE["measurements"][0]["title"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "schema None, expected 1"),
        ({"fd": {"prior": 8.9}, "n": 10}, "schema None, expected 1"),
        (changed(schema=2), "schema 2, expected 1"),
        (changed(measurements=None), "damaged"),
        (changed(measurements=["fd"]), "damaged"),
        (changed(measurements=[FD.to_json(), FD.to_json()]), "same name, kind, part and extractor"),
        (changed(conditions=[1]), "damaged"),
        (changed(conditions={"extractors": {"classifier": 3}}), "extractors\\.classifier must be a table, not 3"),
        (changed(seconds="long"), "damaged"),
        ({"schema": 1}, "is missing"),
        (UNKNOWN_FIELD, "colour"),
        (NO_TITLE, "title"),
        (measurement(kind="stage"), "kind 'stage'"),
        (measurement(value="much"), "much"),
        (measurement(better=3), "better"),
        (measurement(conditions={"k": {}}), "conditions\\.k must be text"),
    ],
)
def test_a_file_of_another_shape_is_named_with_what_is_wrong_and_how_to_make_it_again(content, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        from_json(content, PATH)
    assert "metrics.json" in str(caught.value)
    assert "hebm evaluate" in str(caught.value)
