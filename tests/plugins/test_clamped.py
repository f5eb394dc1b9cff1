"""The clamped normal is NVAE's, extreme raw outputs included."""

import pytest
import torch
from unit_vectors import assert_parity, unit_vectors

from hebm_plugins.clamped import clamped_normal, soft_clamp


@pytest.fixture(scope="module")
def vectors():
    return unit_vectors("distributions")


def raw_normal(vectors):
    return clamped_normal(vectors["normal.raw_mu"], vectors["normal.raw_log_sigma"])


def test_mean_and_deviation_are_the_published_ones(vectors):
    found = raw_normal(vectors)
    assert_parity(found.mean, vectors["normal.t1.0.mu"])
    assert_parity(found.std, vectors["normal.t1.0.sigma"])


@pytest.mark.parametrize("temperature", [0.3, 0.7])
def test_a_temperature_scales_the_deviation_floor_included_and_not_the_mean(vectors, temperature):
    found = raw_normal(vectors)
    assert_parity(temperature * found.std, vectors[f"normal.t{temperature}.sigma"])
    assert_parity(found.mean, vectors[f"normal.t{temperature}.mu"])


def test_density_and_kl_are_the_published_ones(vectors):
    # q's raw means are normal.raw_mu: the file holds equal arrays once
    column = {name: value[:, None] for name, value in vectors.items()}
    q = clamped_normal(column["normal.raw_mu"], column["normal.kl.q_raw_log_sigma"])
    p = clamped_normal(column["normal.kl.p_raw_mu"], column["normal.kl.p_raw_log_sigma"])
    assert_parity(q.log_prob(column["normal.logp.z"]), vectors["normal.logp.q"])
    assert_parity(q.kl(p), vectors["normal.kl.q_p"])


def test_raw_zeros_give_a_deviation_of_1_01():
    found = clamped_normal(torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    assert found.std.item() == pytest.approx(1.01, abs=1e-15)


def test_a_floor_bounds_the_deviation_from_below_alone():
    raw = torch.tensor([-100.0, -1.0, 3.0])
    free, floored = clamped_normal(raw, raw), clamped_normal(raw, raw, log_std_floor=-2.0)
    assert floored.std[0].item() == pytest.approx(torch.tensor(-2.0).exp().item() + 0.01)
    assert torch.equal(floored.std[1:], free.std[1:])


def test_half_precision_ends_here():
    assert soft_clamp(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert soft_clamp(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
