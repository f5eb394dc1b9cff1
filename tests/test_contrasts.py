"""Loss, AUROC and certified nats of a log ratio on held-out draws."""

import math

import pytest
import torch

from hebm.contrasts import Contrasted, bce, certified_nats, certified_nats_error, held_out
from hebm.latents import Latents


def points(values):
    u = torch.tensor(values, dtype=torch.float64).unsqueeze(1)
    return Latents(u, (u,), (torch.ones_like(u),))


def of(positive, negative, log_ratio=lambda latents: latents.u.squeeze(1)):
    return Contrasted(points(positive), points(negative), log_ratio)


def test_the_numbers_are_those_of_a_computation_by_hand():
    found = held_out([of([1.0, -0.5], [0.0, -2.0])])
    softplus = lambda f: math.log1p(math.exp(f))  # noqa: E731
    assert found.loss == pytest.approx((softplus(-1) + softplus(0.5)) / 2 + (softplus(0) + softplus(-2)) / 2)
    assert found.auroc == 0.75  # of four pairs, only (−0.5, 0) is in the wrong order
    g = math.log(2)  # 1 is clipped to it
    assert found.nats == pytest.approx((g - 0.5) / 2 - (1 + math.exp(-2)) / 2 + 1)


def test_batches_count_as_one_set_of_draws():
    whole = held_out([of([1.0, -0.5], [0.0, -2.0])])
    parts = held_out([of([1.0], [0.0]), of([-0.5], [-2.0])])
    assert parts == whole


def test_losses_and_nats_of_separate_contrasts_add_up_and_their_auroc_is_the_mean():
    columns = lambda latents: torch.cat([latents.u, 0 * latents.u], 1)  # noqa: E731
    one, two = held_out([of([1.0, 2.0], [0.0, -2.0])]), held_out([of([1.0, 2.0], [0.0, -2.0], columns)])
    assert two.loss == pytest.approx(one.loss + 2 * math.log(2))
    assert (two.nats, two.auroc) == (pytest.approx(one.nats), (one.auroc + 0.5) / 2)


def test_the_true_log_ratio_of_two_gaussians_certifies_their_kl():
    n, shift = 200_000, 1.0
    x = torch.randn(2, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f = lambda x: shift * x - shift**2 / 2  # noqa: E731
    assert float(certified_nats(f(x[0] + shift), f(x[1]))) == pytest.approx(shift**2 / 2, abs=0.02)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 20.0])
def test_no_log_ratio_certifies_more_than_the_kl_on_average_over_sets_of_draws(scale):
    generator, shift = torch.Generator().manual_seed(1), 0.5
    x = torch.randn(2, 16, 20_000, generator=generator, dtype=torch.float64)  # 20,000 sets of 16
    f = lambda x: scale * (shift * x - shift**2 / 2)  # noqa: E731
    nats = certified_nats(f(x[0] + shift), f(x[1]))
    assert float(nats.mean()) <= shift**2 / 2 + 3 * float(nats.std()) / math.sqrt(nats.numel())


def test_the_standard_error_is_the_deviation_of_the_certified_nats_over_many_sets_of_draws():
    x = torch.randn(2, 100, 2000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    positive, negative = (0.5 * each - 0.125 for each in (x[0] + 0.5, x[1]))
    deviation = float(certified_nats(positive, negative).std())
    assert float(certified_nats_error(positive, negative).mean()) == pytest.approx(deviation, rel=0.05)


def test_one_draw_takes_away_at_most_one_nat():
    positive, negative = torch.zeros(50).double(), torch.full((50,), -100.0).double()
    before = float(certified_nats(positive, negative))
    negative[7] = 1e6
    assert float(certified_nats(positive, negative)) == pytest.approx(before - 1)


def test_a_log_ratio_of_zero_learned_nothing():
    found = held_out([of([1.0, 2.0], [3.0, 4.0], lambda latents: 0 * latents.u.squeeze(1))])
    assert (found.loss, found.auroc, found.nats) == (pytest.approx(2 * math.log(2)), 0.5, 0.0)
    assert float(bce(torch.zeros(3), torch.zeros(3))) == pytest.approx(2 * math.log(2))


def test_a_log_ratio_that_is_nan_has_no_numbers():
    found = held_out([of([math.nan], [0.0])])
    assert all(math.isnan(number) for number in (found.loss, found.auroc, found.nats))
