from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score

from hebm.errors import DataError
from hebm.evaluation.auroc import auroc

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
