from __future__ import annotations

import pytest
import torch

from hebm.evaluation.jackknife import GROUPS, Estimate, combined, group_count, groups_of


def test_the_error_of_a_mean_is_its_textbook_error_where_each_image_is_a_group():
    x = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    without = (x.sum() - x) / 49
    assert Estimate(float(x.mean()), without).error == pytest.approx(float(x.std() / 50**0.5), rel=1e-9)


def test_what_two_estimates_share_leaves_the_error_of_their_difference():
    noise = torch.linspace(-1, 1, 10, dtype=torch.float64)
    first, second = Estimate(3.0, 3.0 + noise), Estimate(1.0, 1.0 + noise)
    assert combined(lambda a, b: a - b, first, second).error == pytest.approx(0.0, abs=1e-12)
    assert combined(lambda a, b: a + b, first, second).error == pytest.approx(2 * first.error)


def test_groups_have_equal_sizes_mix_what_is_in_order_and_are_the_same_for_sets_of_one_size():
    group = groups_of(1000, GROUPS)
    assert torch.equal(torch.bincount(group), torch.full((GROUPS,), 10))
    assert torch.equal(group, groups_of(1000, GROUPS))
    assert (group[::10].bincount(minlength=GROUPS) < 10).all()  # every tenth image may be of one class


def test_few_images_are_groups_of_their_own_and_too_few_have_no_error():
    assert [group_count(n, 5000) for n in (2, 3, 40, 5000)] == [0, 3, 40, GROUPS]
    assert Estimate(1.0, torch.empty(0)).error is None
