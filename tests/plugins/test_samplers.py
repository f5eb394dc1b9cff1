"""First-party samplers: conventions, temperature, exactness of MALA, cost in evaluations."""

import math

import pytest
import torch

from hebm.densities import LogDensity, ValueAndGrad
from hebm.errors import ConfigError
from hebm.noise import Noise
from hebm.sampling import Trace, run
from hebm.testing.subjects import GaussianTarget, points
from hebm_plugins.samplers.langevin import Langevin
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.pcn import PCN
from hebm_plugins.samplers.pcn_mala import PCNMALA
from hebm_plugins.samplers.ula import ULA

CHAINS = 16384


def noise(*path):
    return Noise(0, *path, dtype=torch.float64)


def standard(dim=1, var=1.0):
    return GaussianTarget(torch.zeros(dim).double(), var * torch.eye(dim).double())


class Quartic(LogDensity):
    """log p(u) = −u⁴/4 − u²/2 + u/2: neither Gaussian nor symmetric."""

    def remainder(self, u):
        return (0.5 * u - 0.25 * u**4).sum(1)

    def moments(self):
        grid = torch.linspace(-6, 6, 20001, dtype=torch.float64)
        weight = (0.5 * grid - 0.25 * grid**4 - 0.5 * grid**2).exp()
        weight = weight / weight.sum()
        mean = (weight * grid).sum()
        return float(mean), float((weight * (grid - mean) ** 2).sum())


class Counting(LogDensity):
    """N(0, I) that counts its evaluations."""

    calls = 0

    def remainder(self, u):
        return (0 * u).sum(1)

    def value_and_grad(self, u):
        self.calls += 1
        return ValueAndGrad(*self.gaussian(u))


@pytest.mark.parametrize(
    ("convention", "step_size", "h"), [("std", 0.4, 0.16), ("step", 0.16, 0.16), ("drift", 0.08, 0.16)]
)
def test_the_papers_conventions_are_one_step_size(convention, step_size, h):
    sampler = Langevin(step_size=step_size, convention=convention)
    assert sampler.h == pytest.approx(h)
    density, u = standard(3), points(8, 3, torch.float64)
    plain = run(ULA(step_size=h), density, u, noise("chain"), 5).u
    assert torch.allclose(run(sampler, density, u, noise("chain"), 5).u, plain, atol=1e-12)


def test_ulas_constructors_speak_the_papers_conventions():
    assert ULA.from_std(0.4, steps=3) == ULA(step_size=0.4**2, steps=3)
    assert ULA.from_drift(0.08) == ULA(step_size=0.16)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_samples_the_tempered_density(temperature):
    h = 0.05
    sampler = Langevin(step_size=h, convention="step", temperature=temperature)
    start = math.sqrt(temperature) * points(CHAINS, 1, torch.float64)
    u = run(sampler, standard(), start, noise("chain"), 200).u
    # p^(1/τ) of N(0, 1) is N(0, τ); the bias of ULA is that of step h/τ on N(0, 1)
    var = temperature / (1 - h / (4 * temperature))
    assert abs(float(u.square().mean()) - var) < 4 * var * math.sqrt(2 / CHAINS)


def test_without_noise_it_is_gradient_ascent():
    start = points(4, 2, torch.float64)
    end = run(Langevin(noise_scale=0.0, step_size=0.2, convention="step"), standard(2), start, noise("chain"), 10).u
    assert torch.allclose(end, start * 0.9**10)


def test_noise_scale_multiplies_the_noise_alone():
    sampler = Langevin(noise_scale=0.5, step_size=0.2, convention="step")
    u = run(sampler, standard(), points(CHAINS, 1, torch.float64), noise("chain"), 100).u
    var = 0.25 / (1 - 0.2 / 4)
    assert abs(float(u.square().mean()) - var) < 4 * var * math.sqrt(2 / CHAINS)


EXACT = [MALA(step_size=0.1), MALA(step_size=0.6), PCN(step_size=0.5), PCNMALA(step_size=0.2), PCNMALA(step_size=1.0)]


@pytest.mark.parametrize("sampler", EXACT, ids=str)
def test_adjusted_samplers_are_exact_at_any_step(sampler):
    density = Quartic()
    mean, var = density.moments()
    start = points(CHAINS, 1, torch.float64).clamp(-1.5, 1.5)  # far out, where the gradient is steep, it sticks
    u = run(sampler, density, start, noise("chain"), 120).u
    assert abs(float(u.mean()) - mean) < 4 * math.sqrt(var / CHAINS)
    kurtosis = float((u - u.mean()).pow(4).mean()) - float(u.var()) ** 2
    assert abs(float(u.var()) - var) < 4 * math.sqrt(kurtosis / CHAINS)


def test_ula_is_not():
    density = Quartic()
    _, var = density.moments()
    start = points(CHAINS, 1, torch.float64).clamp(-1.5, 1.5)
    u = run(ULA(step_size=0.3), density, start, noise("chain"), 120).u
    assert float(u.var()) > 1.1 * var


def test_mala_accepts_almost_all_small_steps_and_few_large_ones():
    rates = []
    for h in (0.01, 3.0):
        trace = Trace()
        run(MALA(step_size=h), standard(8), points(512, 8, torch.float64), noise("chain"), 10, trace)
        rates.append(float(torch.stack(trace.accepted).mean()))
    assert rates[0] > 0.99
    assert rates[1] < 0.5


def test_mala_carries_value_and_gradient_of_where_it_is():
    density, u = standard(3), points(64, 3, torch.float64)
    last = []
    run(MALA(step_size=1.5), density, u, noise("chain"), 5, lambda name, step, state, info: last.append(state))
    value, grad = density.value_and_grad(last[-1].u)
    assert torch.equal(last[-1].value, value)
    assert torch.equal(last[-1].grad, grad)


class Broken(LogDensity):
    """0 at the start, and the given value and gradient everywhere else."""

    def __init__(self, start, value, grad):
        self.start, self.value, self.grad = start, value, grad

    def remainder(self, u):
        raise NotImplementedError

    def value_and_grad(self, u):
        at_start = bool((u == self.start).all())
        grad = torch.zeros_like(u)
        grad[:, 1] = 0.0 if at_start else self.grad
        return ValueAndGrad(u.new_full((len(u),), 0.0 if at_start else self.value), grad)


@pytest.mark.parametrize("grad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("value", [0.0, 1e30, math.inf, -math.inf, math.nan])
def test_mala_rejects_a_proposal_without_a_finite_gradient(value, grad):
    start, trace = points(8, 3), Trace()
    end = run(MALA(), Broken(start, value, grad), start, Noise(0, "chain"), 1, trace).u
    assert torch.equal(end, start)
    assert not trace.accepted[0].any()


def test_mala_accepts_the_same_proposals_with_a_finite_gradient():
    start = points(8, 3)
    assert (run(MALA(), Broken(start, 1e30, 0.0), start, Noise(0, "chain"), 1).u != start).all()


@pytest.mark.parametrize(("sampler", "calls"), [(ULA(), 10), (Langevin(), 10), (MALA(), 11)], ids=lambda s: str(s)[:4])
def test_a_step_evaluates_once(sampler, calls):
    density = Counting()
    run(sampler, density, points(4, 2), Noise(0, "chain"), 10)
    assert density.calls == calls


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ULA(step_size=0.0), "step_size"),
        (lambda: ULA(steps=0), "steps"),
        (lambda: MALA(step_size=-1.0), "step_size"),
        (lambda: PCN(step_size=1.1), "step_size"),
        (lambda: PCNMALA(step_size=4.1), "step_size"),
        (lambda: Langevin(convention="other"), "convention"),
        (lambda: Langevin(temperature=0.0), "temperature"),
        (lambda: Langevin(noise_scale=-1.0), "noise_scale"),
        (lambda: ULA(step_size=math.nan), "step_size"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, field):
    with pytest.raises(ConfigError, match=field):
        make()
