import json
import math

import pytest

from hebm.errors import PluginError
from hebm.evaluation.metric import Measurement


def test_a_value_that_is_not_finite_is_null_in_json_and_no_number():
    for value in (None, math.nan, math.inf):
        measurement = Measurement("a", value, "a", error=value)
        assert not measurement.found
        assert (measurement.to_json()["value"], measurement.to_json()["error"]) == (None, None)


def test_json_gives_the_same_measurement_back():
    measurement = Measurement(
        "nll.bits", 1 / 3, "−log p(x)", 0.1, "bits", "prior", "layer 1", "lower", {"k": 3, "s": None}, "n", "s", True
    )
    assert Measurement(**json.loads(json.dumps(measurement.to_json()))) == measurement


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "FD prior"}, "lower-case"),
        ({"title": None}, "title must be text"),
        ({"kind": "stage"}, "kind 'stage' is not one of data, .*use None and a part"),
        ({"better": "more"}, '"lower", "higher" or None'),
        ({"conditions": {"k": [1]}}, "condition 'k'"),
        ({"conditions": {1: 1}}, "condition 1"),
        ({"conditions": 3}, "conditions must be a mapping"),
        ({"detail": "no"}, "detail must be true or false"),
    ],
)
def test_a_field_that_cannot_be_shown_or_compared_is_named(changes, message):
    with pytest.raises(PluginError, match=message):
        Measurement(**{"name": "a", "value": 1.0, "title": "a", **changes})
