import pytest
import torch
from sklearn.metrics import average_precision_score

from hebm.errors import DataError
from hebm.evaluation.detection import average_precision, detection, false_positive_rate


@pytest.mark.parametrize("round_to", [None, 0])
def test_average_precision_agrees_with_scikit_learn_ties_included(round_to):
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(57, generator=generator) + 0.5
    negative = torch.randn(91, generator=generator)
    if round_to is not None:
        positive, negative = positive.round(decimals=round_to), negative.round(decimals=round_to)
    truth = [1] * 57 + [0] * 91
    expected = average_precision_score(truth, torch.cat([positive, negative]).numpy())
    assert average_precision(positive, negative) == pytest.approx(expected, abs=1e-12)


def test_a_score_that_is_always_right_and_one_that_is_always_wrong():
    high, low = torch.arange(10.0) + 10, torch.arange(5.0)
    assert detection(high, low) == (1.0, 1.0, 0.0)
    wrong = detection(low, high)
    assert (wrong.auroc, wrong.fpr95) == (0.0, 1.0)


def test_fpr95_counts_negatives_above_what_95_percent_of_the_positives_reach():
    positive = torch.arange(20.0)  # 19 of 20 reach 1
    assert false_positive_rate(positive, torch.tensor([0.5, 1.0, 1.5, -3.0])) == 0.5


def test_no_scores_or_nan_are_refused():
    with pytest.raises(DataError, match="without NaN"):
        average_precision(torch.ones(2), torch.empty(0))
    with pytest.raises(DataError, match="without NaN"):
        false_positive_rate(torch.tensor([torch.nan]), torch.ones(1))
