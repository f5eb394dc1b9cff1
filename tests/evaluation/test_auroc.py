from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score

from hebm.errors import DataError
from hebm.evaluation.auroc import auroc, auroc_error

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/ebm/closed_form.json").read_text())["metrics"]


def test_ties_count_half():
    case = VECTORS["auroc"]
    assert auroc(torch.tensor(case["positive"]), torch.tensor(case["negative"])) == pytest.approx(case["value"])


def test_equals_scikit_learn_on_many_ties():
    generator = torch.Generator().manual_seed(0)
    positive, negative = (torch.randint(a, 9, (200,), generator=generator).float() for a in (2, 0))
    expected = roc_auc_score([1] * 200 + [0] * 200, torch.cat([positive, negative]))
    assert auroc(positive, negative) == pytest.approx(expected)


def test_nan_scores_are_refused():
    with pytest.raises(DataError, match="NaN"):
        auroc(torch.tensor([1.0, float("nan")]), torch.tensor([0.0]))


def test_the_standard_error_is_that_of_the_placements_by_hand():
    positive, negative = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.0, 2.0])
    above, below = [1.0, 0.5, 0.75], [1.0, 0.5]  # (1 + 1) / 2, (1 + 0) / 2, (1 + ½) / 2; 3/3, (1 + 0 + ½) / 3
    assert auroc(positive, negative) == pytest.approx(statistics.mean(above))
    expected = math.sqrt(statistics.variance(above) / 3 + statistics.variance(below) / 2)
    assert auroc_error(positive, negative) == pytest.approx(expected)


def test_the_standard_error_is_the_deviation_of_the_auroc_over_many_sets_of_draws():
    generator = torch.Generator().manual_seed(0)
    sets = [(torch.randn(80, generator=generator) + 1, torch.randn(50, generator=generator)) for _ in range(600)]
    areas, errors = (torch.tensor([function(*each) for each in sets]) for function in (auroc, auroc_error))
    assert float(errors.mean()) == pytest.approx(float(areas.std()), rel=0.1)


def test_sets_without_overlap_have_no_error_and_one_score_has_none_that_is_known():
    assert auroc_error(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 0
    assert math.isnan(auroc_error(torch.tensor([2.0]), torch.tensor([0.0, 1.0])))
