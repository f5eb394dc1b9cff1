"""The one MCMC loop: pure, fed by derived noise, repairs nothing, counts what became NaN (R10)."""

import math

import pytest
import torch

from hebm.densities import Conditioned, LogDensity, TiltedPrior
from hebm.noise import Noise
from hebm.sampling import States, Trace, draw_step_noise, run, step_sizes
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import GaussianTarget, points, seeded
from hebm.tilts import Tilt
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.samplers.langevin import Langevin
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.pcn import PCN
from hebm_plugins.samplers.pcn_mala import PCNMALA
from hebm_plugins.samplers.ula import ULA

SAMPLERS = [ULA(), Langevin(step_size=0.2), MALA(), PCN(), PCNMALA()]
named = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone)


@pytest.fixture
def density(backbone):
    energy = seeded(lambda: MLP(width=8, zero_init=False).build(backbone.layout))
    return TiltedPrior(backbone, Tilt(lambda latents: energy(latents).squeeze(2), (energy,)))


@pytest.fixture
def u(backbone):
    return points(128, backbone.layout.dim)


@named
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_chain_that_goes_bad_leaves_every_other_unchanged_and_is_counted(sampler, density, u, bad):
    clean = run(sampler, density, u, Noise(0, "chain"), 10)
    spoiled = u.clone()
    spoiled[17, 2] = bad
    with_nan = run(sampler, density, spoiled, Noise(0, "chain"), 10)
    others = [i for i in range(128) if i != 17]
    assert torch.equal(clean.u[others], with_nan.u[others])
    assert int(clean.nonfinite) == 0
    assert int(with_nan.nonfinite) == 1


class Cliff(GaussianTarget):
    """A Gaussian whose log density is NaN where u_0 > 1."""

    def remainder(self, u):
        return torch.where(u[:, 0] > 1, math.nan, 0.0) + (0 * u).sum(1)

    def gaussian(self, u):
        value, grad = super().gaussian(u)
        return value, torch.where(u[:, :1] > 1, math.nan, grad)


def cliff():
    return Cliff(torch.zeros(2), torch.eye(2))


def test_chains_that_meet_nan_on_their_way_are_counted_and_hurt_nobody():
    start = points(64, 2).clamp(max=0.5)
    with_cliff = run(ULA(step_size=0.3), cliff(), start, Noise(0, "chain"), 20)
    without = run(ULA(step_size=0.3), GaussianTarget(torch.zeros(2), torch.eye(2)), start, Noise(0, "chain"), 20)
    lost = ~with_cliff.u.isfinite().all(1)
    assert 0 < int(lost.sum()) < 64
    assert int(with_cliff.nonfinite) == int(lost.sum())
    assert torch.equal(with_cliff.u[~lost], without.u[~lost])


class FactorCliff(LogDensity):
    """N(0, I) whose remainder is NaN where u_0 > 1."""

    def remainder(self, u):
        return torch.where(u[:, 0] > 1, math.nan, 0.0) + (0 * u).sum(1)


STEEP = [(MALA(step_size=0.3), cliff), (PCN(step_size=0.3), FactorCliff), (PCNMALA(step_size=0.3), FactorCliff)]


@pytest.mark.parametrize(("sampler", "made"), STEEP, ids=lambda part: type(part).__name__)
def test_adjusted_samplers_never_step_into_nan(sampler, made):
    trace = Trace()
    start = points(64, 2).clamp(max=0.5)
    chain = run(sampler, made(), start, Noise(0, "chain"), 50, trace)
    assert int(chain.nonfinite) == 0
    assert bool((chain.u[:, 0] <= 1).all())
    assert 0.5 < float(torch.stack(trace.accepted).mean()) < 1


@named
def test_a_chain_is_a_function_of_start_and_noise(sampler, density, u):
    first, again = (run(sampler, density, u, Noise(0, "chain"), 5).u for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, run(sampler, density, u, Noise(1, "chain"), 5).u)


@named
def test_samples_do_not_depend_on_the_batch_size(sampler, density, u):
    whole = run(sampler, density, u, Noise(0, "chain"), 10).u
    second = run(sampler, density, u[64:], Noise(0, "chain", start=64), 10).u
    few = run(sampler, density, u[70:73], Noise(0, "chain", start=70), 10).u
    assert torch.allclose(second, whole[64:], atol=1e-4)
    assert torch.allclose(few, whole[70:73], atol=1e-4)


@named
def test_the_start_is_left_alone_and_the_end_holds_no_graph(sampler, density, u):
    before = u.clone()
    end = run(sampler, density, u, Noise(0, "chain"), 3).u
    assert torch.equal(u, before)
    assert not end.requires_grad


def test_parameters_require_no_gradients_inside_and_do_again_afterwards(backbone, density, u):
    inside = []
    watch = lambda name, step, state, info: inside.append(any(p.requires_grad for p in backbone.parameters()))  # noqa: E731
    run(ULA(), density, u, Noise(0, "chain"), 2, watch)
    assert inside == [False, False]
    assert all(p.requires_grad for p in backbone.parameters())


def test_steps_are_the_samplers_own_unless_given(density, u):
    states = States()
    run(ULA(steps=7), density, u, Noise(0, "chain"), observe=states)
    run(ULA(steps=7), density, u, Noise(0, "chain"), 2, states)
    assert len(states.u) == 9
    assert torch.equal(run(ULA(), density, u, Noise(0, "chain"), 0).u, u)


@named
def test_observers_change_nothing_and_see_every_step(sampler, density, u):
    trace, states = Trace(), States(every=2)
    plain = run(sampler, density, u, Noise(0, "chain"), 5).u
    traced = run(sampler, density, u, Noise(0, "chain"), 5, trace).u
    run(sampler, density, u, Noise(0, "chain"), 5, states)
    assert torch.equal(plain, traced)
    assert len(trace.values) == 5
    assert len(trace.grad_norms) == (0 if isinstance(sampler, PCN) else 5)
    assert {part.shape for part in (*trace.values, *trace.grad_norms)} == {(128,)}
    assert len(trace.accepted) == (5 if isinstance(sampler, (MALA, PCN, PCNMALA)) else 0)
    assert len(states.u) == 3
    assert torch.equal(states.u[-1], plain)


@named
def test_an_observer_sees_the_whole_u_and_no_gradient_where_it_is_fixed(sampler, density, backbone, u):
    fixed, seen = backbone.layout.fix(u + 1, {1}), []
    observe = lambda name, step, state, info: seen.append((name, step, state[0], info.grad))  # noqa: E731
    end = run(sampler, density, u, Noise(0, "chain"), 2, observe, fixed, "stage 1").u
    assert [step[:2] for step in seen] == [("stage 1", 0), ("stage 1", 1)]
    assert torch.equal(seen[-1][2], end)
    if isinstance(sampler, PCN):
        assert seen[0][3] is None
    else:
        assert not seen[0][3][:, fixed.mask].any()
        assert seen[0][3][:, ~fixed.mask].all()


@named
def test_fixed_coordinates_stay_and_the_others_move_as_their_own_density_says(sampler, density, backbone, u):
    fixed = backbone.layout.fix(u + 1, {1})
    end = run(sampler, density, u, Noise(0, "chain"), fixed=fixed).u
    assert torch.equal(end[:, fixed.mask], (u + 1)[:, fixed.mask])
    alone = run(sampler, Conditioned(density, fixed), fixed.free(u), Noise(0, "chain")).u
    assert torch.equal(fixed.free(end), alone)


def test_a_sampler_gets_the_draws_that_it_declares():
    u = torch.zeros(3, 2)
    assert draw_step_noise(ULA(), u, Noise(0)).uniform is None
    both = draw_step_noise(MALA(), u, Noise(0))
    assert both.normal.shape == (3, 2)
    assert both.uniform.shape == (3,)


def test_step_sizes_of_numbers_and_of_a_scale_per_row():
    assert step_sizes(0.5, 0.5) == (0.25, 0.5)
    h, root = step_sizes(0.5, torch.tensor([[0.5], [2.0]]))
    assert torch.equal(h, torch.tensor([[0.25], [1.0]]))
    assert torch.equal(root, torch.tensor([[0.5], [1.0]]))
