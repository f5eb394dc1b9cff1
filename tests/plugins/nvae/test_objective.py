"""Schedules, balance and penalty weight as the published code has them, and the sum they make."""

import json
import math
from pathlib import Path

import pytest
import torch

from hebm.errors import ConfigError
from hebm.interfaces import Progress
from hebm.latents import Latents, Posterior
from hebm_plugins.nvae.objective import (
    NVAEObjective,
    balance_coefficients,
    kl_coefficient,
    norm_weight,
    scale_weights,
)

SCHEDULES = json.loads((Path(__file__).parents[2] / "vectors/nvae/unit/schedules.json").read_text())
GROUPS = (1, 2)


@pytest.mark.parametrize("case", SCHEDULES["kl_coeff"])
def test_the_kl_terms_weight_is_the_published_one(case):
    steps = 1000  # the vectors give the portions of T in steps
    beta = kl_coefficient(case["step"], steps, case["total"] / steps, case["const"] / steps, case["min"])
    assert beta == pytest.approx(case["value"], rel=1e-12)


def test_without_a_warm_up_the_kl_terms_have_full_weight_from_the_start():
    assert kl_coefficient(0, 100, warmup=0.0) == 1.0
    assert kl_coefficient(0, 0) == 1.0


@pytest.mark.parametrize("case", SCHEDULES["alpha_square"])
def test_scale_weights_are_the_published_ones(case):
    alpha = scale_weights(tuple(reversed(case["groups_per_scale"])))
    torch.testing.assert_close(alpha, torch.tensor(case["alpha"], dtype=torch.float64), rtol=1e-7, atol=0)


@pytest.mark.parametrize("beta", ["0.3", "1.0"])
def test_the_balanced_kl_is_the_published_one(beta):
    case = SCHEDULES[f"kl_balancer_{beta}"]
    kl = torch.tensor(case["kl_all"], dtype=torch.float64).T
    assert scale_weights((2, 2)).tolist() == case["alpha"]
    objective = NVAEObjective(norm_penalty=0.0)
    balanced = float(beta) * objective._weighed(kl, (2, 2), float(beta))
    torch.testing.assert_close(balanced, torch.tensor(case["balanced"], dtype=torch.float64), rtol=1e-6, atol=0)
    if float(beta) < 1:
        coefficients = torch.tensor(case["coeffs"], dtype=torch.float64)
        torch.testing.assert_close(balance_coefficients(kl, (2, 2)), coefficients, rtol=1e-6, atol=0)


@pytest.mark.parametrize("case", SCHEDULES["wdn_anneal"])
def test_the_penaltys_weight_is_the_published_one(case):
    assert norm_weight(case["kl_coeff"], case["final"], case["init"]) == pytest.approx(case["value"], rel=1e-12)


def test_the_penaltys_weight_is_constant_without_a_start_and_0_when_off():
    assert norm_weight(0.3, 0.01) == 0.01
    assert norm_weight(0.3, 0.0, 1.0) == 0.0


# ---------------------------------------------------------------- the sum


def made(step, total=10, penalty=None, **options):
    """The loss on a small posterior, what it was made of, and the iterations that the penalty was asked for."""
    asked = []
    log_likelihood = torch.tensor([-3.0, -5.0], dtype=torch.float64, requires_grad=True)
    kl = torch.tensor([[1.0, 2.0, 0.5], [3.0, 1.0, -0.1]], dtype=torch.float64, requires_grad=True)

    def counted(iterations):
        asked.append(iterations)
        return torch.tensor(7.0, dtype=torch.float64)

    u = torch.zeros(2, 3, dtype=torch.float64)
    posterior = Posterior(Latents(u, (u,), (torch.ones_like(u),)), kl=kl)
    loss = NVAEObjective(**options).loss(log_likelihood, posterior, GROUPS, penalty or counted, Progress(step, total))
    return loss, kl, asked


def test_after_the_warm_up_the_loss_is_the_negative_elbo_plus_the_penalty():
    loss, kl, asked = made(9, norm_penalty=0.5)
    elbo = -4.0 - float(kl.detach().sum(1).mean())
    assert loss.total.item() == pytest.approx(-elbo + 3.5, rel=1e-12)
    expected = {"elbo": elbo, "reconstruction": 4.0, "kl": -4.0 - elbo, "kl_coefficient": 1.0, "norm_penalty": 3.5}
    assert {name: float(value) for name, value in loss.terms.items()} == pytest.approx(expected, rel=1e-12)
    assert loss.posterior is not None
    assert asked == [4]


def test_during_the_warm_up_the_kl_terms_are_balanced_by_detached_weights():
    loss, kl, _ = made(1, norm_penalty=0.0)
    beta = kl_coefficient(1, 10)
    weights = balance_coefficients(kl, GROUPS)
    assert 0 < beta < 1
    assert loss.total.item() == pytest.approx(4.0 + beta * float((kl * weights).detach().sum(1).mean()), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss.total, kl)
    torch.testing.assert_close(gradient, beta * weights.expand_as(kl) / 2)
    plain, *_ = made(1, norm_penalty=0.0, balance=False)
    assert plain.total.item() == pytest.approx(4.0 + beta * float(kl.detach().sum(1).mean()), rel=1e-12)
    assert float(plain.terms["elbo"]) == float(loss.terms["elbo"])


def test_the_first_step_iterates_longer_and_a_penalty_that_is_off_is_not_computed():
    assert made(0)[2] == [40]
    assert made(0, power_iterations=50)[2] == [50]
    assert made(1, power_iterations=6)[2] == [6]
    assert made(1, norm_penalty=0.0, norm_penalty_from=1.0)[2] == []


def test_the_penalty_gets_gradients_times_its_weight():
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    loss, *_ = made(0, penalty=lambda iterations: scale**2, norm_penalty=0.01, norm_penalty_from=1.0)
    (gradient,) = torch.autograd.grad(loss.total, scale)
    assert float(gradient) == pytest.approx(4 * math.exp(1e-4 * math.log(0.01)), rel=1e-12)


@pytest.mark.parametrize("wrong", [{"kl_warmup": -0.1}, {"norm_penalty_from": 0.0}, {"power_iterations": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError):
        NVAEObjective(**wrong)
