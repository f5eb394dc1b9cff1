"""Sinusoids of levels, and the nets on them."""

import math

import torch

from hebm_plugins.energies.time_embedding import TimeMLP, distinct, sinusoids

LIKE = torch.zeros((), dtype=torch.float64)


def test_sinusoids_are_the_published_formula():
    e = sinusoids(torch.tensor([0, 3]), LIKE)
    assert e.shape == (2, 128)
    assert e.dtype == torch.float64
    for k in (0, 1, 17, 63):
        w = 10000 ** (-k / 64)
        assert math.isclose(float(e[1, k]), math.cos(3 * w), abs_tol=1e-14)
        assert math.isclose(float(e[1, 64 + k]), math.sin(3 * w), abs_tol=1e-14)
    assert e[0].tolist() == [1.0] * 64 + [0.0] * 64


def test_no_level_is_level_zero():
    assert torch.equal(sinusoids(None, LIKE), sinusoids(torch.tensor([0]), LIKE))


def test_neighbouring_levels_differ():
    e = sinusoids(torch.arange(6), LIKE)
    assert torch.cdist(e, e).add(torch.eye(6) * 9).min() > 1


def test_equal_levels_are_one_row():
    assert distinct(torch.tensor([2, 2, 2])).tolist() == [2]
    assert distinct(torch.tensor([2, 1, 2])).tolist() == [2, 1, 2]
    assert distinct(None) is None


def test_the_time_net_has_biases_only_when_asked():
    assert set(TimeMLP(4, spectral=False).state_dict()) == {"first.weight", "second.weight"}
    net = TimeMLP(4, spectral=False, bias=True)
    e = sinusoids(torch.tensor([1, 2]), torch.zeros(()))
    inner = torch.nn.functional.silu(e @ net.first.weight.T + net.first.bias)
    torch.testing.assert_close(net(e), inner @ net.second.weight.T + net.second.bias)
