"""The root of DVP-VAE: its process, its bounds against an exact likelihood, and what the vectors do not cover."""

import math

import attrs
import pytest
import torch
from torch import nn

from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec, Progress, Request, context_of
from hebm.latents import Latents, Posterior
from hebm.noise import Noise
from hebm.testing.subjects import SMALL_LAYOUT, ReferenceBackbone, contexts, perturbed, points, seeded
from hebm_plugins.dvp.recipe import DVP
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.energies.with_context import WithContext
from hebm_plugins.priors.dvp.process import Diffusion, stratified
from hebm_plugins.priors.dvp.recipe import DVPDiffusion
from hebm_plugins.priors.dvp.schedule import SCHEDULES
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.samplers.ula import ULA

SPREAD = 0.6
"""Standard deviation of the c that `Exact` knows."""


class Exact(nn.Module):
    """ε̂ = E[ε | z_t] for c ~ N(0, s²): σ z / (α² s² + σ²)."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, z, t):
        alpha, sigma = (value(t).view(-1, 1, 1, 1) for value in (self.schedule.alpha, self.schedule.sigma))
        return sigma * z / (alpha.square() * SPREAD**2 + sigma.square())


def exact(steps, kind="linear", discrete=False):
    schedule = SCHEDULES[kind](-6.0, 7.0)
    return Diffusion(Exact(schedule), schedule, steps, discrete=discrete).double()


def backbone(**options):
    small = {"latents": (1, 2), "channels": 8, "encoder_blocks": 1, "context_size": 3}
    return seeded(lambda: DVP(**{**small, **options}).build(ImageSpec(1, 8, 8))).double()


def prior(ladder, **options):
    recipe = DVPDiffusion(**{"steps": 3, "blocks": 1, **options})
    return perturbed(seeded(lambda: recipe.build(ladder)).double(), 0.1)


def posterior(ladder, rows=8):
    u, c = points(rows, ladder.layout.dim, torch.float64), 0.3 * contexts(ladder.layout, rows, torch.float64)
    return Posterior(ladder.latents(u, c))


# ------------------------------------------------------------ the process


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_slope_is_the_derivative_of_gamma(kind):
    schedule = SCHEDULES[kind](-6.0, 7.0).double()
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.gamma(t).sum(), t)
    assert torch.allclose(schedule.slope(t), slope)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("steps", [4, 25])
def test_trajectories_of_a_linear_chain_come_to_its_exact_likelihood(kind, steps):
    """Every step is Gaussian and linear in z, so that p(c) of the chain is a Gaussian whose variance is a recursion."""
    chain = exact(steps, kind)
    var = 1.0
    for k in range(steps, 0, -1):
        t, s = (torch.full((1,), j / steps, dtype=torch.float64) for j in (k, k - 1))
        step = chain.schedule.backwards(t, s)
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        gain = float(step.z + step.x * chain.denoised(one, t).flatten())
        var = gain**2 * var + float(step.std) ** 2
    zero = torch.zeros(1, dtype=torch.float64)
    alpha = float(chain.schedule.alpha(zero))
    var = var / alpha**2 + math.exp(-6.0)
    c = torch.tensor([-0.9, 0.0, 0.4], dtype=torch.float64)
    rows = 20_000
    noise = Noise(0, "trajectory", dtype=torch.float64)
    log_w = chain.trajectory_weight(
        c.repeat_interleave(rows).view(-1, 1, 1, 1), lambda k: noise.derive(k).normal(rows * len(c), 1, 1, 1)
    ).view(len(c), rows)
    found = log_w.logsumexp(1) - math.log(rows)
    expected = -0.5 * (c.square() / var + math.log(2 * math.pi * var))
    weights = (log_w - found[:, None]).exp()
    assert ((found - expected).abs() < 4.5 * weights.std(1) / math.sqrt(rows) + 1e-9).all()
    assert (log_w.mean(1) < expected).all()


def test_the_mean_of_a_trajectorys_weight_is_the_chains_bound():
    chain, rows = exact(4), 40_000
    c = torch.full((rows, 1, 1, 1), 0.7, dtype=torch.float64)
    noise = Noise(0, "bound", dtype=torch.float64)
    log_w = chain.trajectory_weight(c, lambda k: noise.derive("w", k).normal(rows, 1, 1, 1))
    eps = [noise.derive("e", k).normal(rows, 1, 1, 1) for k in range(1, 5)]
    bound = chain.summed(c, noise.derive("first").normal(rows, 1, 1, 1), eps, chain.chain_weight).log_prob
    error = math.hypot(float(log_w.std()), float(bound.std())) / math.sqrt(rows)
    assert abs(float(log_w.mean() - bound.mean())) < 4.5 * error


def test_the_published_sum_lies_above_the_chains_bound():
    chain, rows = exact(4), 4000
    c = torch.full((rows, 1, 1, 1), 0.7, dtype=torch.float64)
    noise = Noise(0, "bound", dtype=torch.float64)
    eps = [noise.derive("e", k).normal(rows, 1, 1, 1) for k in range(1, 5)]
    start = noise.derive("first").normal(rows, 1, 1, 1)
    bound = chain.summed(c, start, eps, chain.chain_weight).log_prob.mean()
    assert chain.summed(c, start, eps, chain.schedule.continuous_weight).log_prob.mean() > bound + 0.1


def test_in_discrete_time_training_has_the_chains_bound_as_its_mean():
    chain, rows = exact(5, discrete=True), 60_000
    c = torch.full((rows, 1, 1, 1), 0.7, dtype=torch.float64)
    noise = Noise(0, "discrete", dtype=torch.float64)
    t = noise.derive("t").uniform(rows)
    assert set((chain.snapped(t) * 5).round().long().tolist()) == {1, 2, 3, 4, 5}
    start, eps = noise.derive("0").normal(rows, 1, 1, 1), noise.derive("1").normal(rows, 1, 1, 1)
    trained = chain.terms(c, start, t, eps).log_prob
    summed = chain.summed(c, start, [noise.derive(k).normal(rows, 1, 1, 1) for k in range(5)], chain.chain_weight)
    error = math.hypot(float(trained.std()), float(summed.log_prob.std())) / math.sqrt(rows)
    assert abs(float(trained.mean() - summed.log_prob.mean())) < 4.5 * error


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, SPREAD), (0.0, None)])
def test_draws_have_the_datas_spread(temperature, expected):
    chain, rows = exact(100), 20_000
    noise = Noise(0, "draws", dtype=torch.float64)
    draws = chain.drawn(noise.normal(rows, 1, 1, 1), lambda k: noise.derive(k).normal(rows, 1, 1, 1), temperature)
    if expected is None:
        assert float(draws.std()) < 0.8 * SPREAD
    else:
        assert float(draws.std()) == pytest.approx(expected, rel=0.1)  # clipping of x̂ narrows it


# ------------------------------------------------------------ times


def test_stratified_times_have_one_of_each_stratum():
    t = stratified(torch.tensor([0.37]), 10)
    assert sorted((10 * t).floor().long().tolist()) == list(range(10))


def test_a_process_has_its_part_of_the_strata():
    offset = torch.tensor([0.37])
    parts = [stratified(offset, 5, first, 10) for first in (0, 5)]
    assert torch.allclose(torch.cat(parts), stratified(offset, 10))


def test_two_halves_of_a_batch_learn_what_the_whole_does():
    ladder = backbone()
    root, whole = prior(ladder, stable=True).eval(), posterior(ladder)
    noise, progress = Noise(0, "objective", dtype=torch.float64), Progress(0, 1, 8)
    u, c = whole.latents.u, whole.latents.context
    halves = [
        root.objective(ladder, Posterior(ladder.latents(u[i : i + 4], c[i : i + 4])), noise.at(i), progress).total
        for i in (0, 4)
    ]
    expected = root.objective(ladder, whole, noise, progress).total
    assert torch.allclose(sum(halves) / 2, expected)


# ------------------------------------------------------------ the prior


def test_the_objective_reaches_the_context_and_the_net():
    ladder = backbone()
    root, draw = prior(ladder, learn_gamma_min=True), posterior(ladder)
    c = draw.latents.context.requires_grad_()
    root.objective(
        ladder, Posterior(ladder.latents(draw.latents.u, c)), Noise(0, "o", dtype=torch.float64), Progress(0, 1)
    ).total.backward()
    assert (c.grad != 0).any()
    assert all(p.grad is not None and (p.grad != 0).any() for p in root.parameters())


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_schedule_has_its_ends_to_float64_and_the_type_of_its_times(kind):
    schedule = SCHEDULES[kind](-13.3, 5.1)
    assert [float(end) for end in (schedule.low, schedule.high)] == [-13.3, 5.1]
    ends = schedule.gamma(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([-13.3, 5.1], rel=1e-14)
    t = torch.tensor([0.25, 0.5])
    values = (schedule.gamma(t), schedule.slope(t), schedule.alpha(t), *schedule.backwards(t, t / 2))
    assert {value.dtype for value in values} == {torch.float32}


def test_gamma_min_is_fixed_unless_it_is_learned():
    ladder = backbone()
    assert "diffusion.schedule.low" in dict(prior(ladder).named_buffers())
    assert "diffusion.schedule.low" in dict(prior(ladder, learn_gamma_min=True).named_parameters())


def test_dropout_is_of_training_alone_and_derived():
    ladder = backbone()
    root, draw = prior(ladder, dropout=0.5), posterior(ladder)

    def bound(net, name):
        return float(net.objective(ladder, draw, Noise(0, name, dtype=torch.float64), Progress(0, 1)).total.detach())

    assert bound(root.train(), "a") == bound(root.train(), "a") != bound(root.eval(), "a")
    plain = prior(ladder)
    assert bound(plain.train(), "a") == bound(plain.eval(), "a")


def test_draws_at_temperature_zero_depend_on_their_start_alone():
    ladder = backbone()
    noise = Noise(0, "s", dtype=torch.float64)
    cold, warm = (prior(ladder, temperature=t).sample(ladder, 4, noise).context for t in (0.0, 1.0))
    assert not torch.equal(cold, warm)
    assert torch.equal(cold, prior(ladder, temperature=0.0).sample(ladder, 4, noise).context)


@pytest.mark.parametrize("time", ["continuous", "discrete"])
@pytest.mark.parametrize("prediction", ["noise", "velocity"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_combination_trains_a_little(schedule, prediction, time):
    ladder = backbone()
    root = prior(ladder, schedule=schedule, prediction=prediction, time=time, stable=True)
    optimizer = torch.optim.Adam(root.parameters(), 1e-2)
    draw, losses = posterior(ladder, 64), []
    for step in range(30):
        loss = root.objective(ladder, draw, Noise(0, step, dtype=torch.float64), Progress(step, 30)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < sum(losses[:5])


# ------------------------------------------------------------ energies on top of it


def test_an_energy_with_context_sees_it_beside_every_layer():
    ladder = backbone()
    u = points(3, ladder.layout.dim, torch.float64)
    c = contexts(ladder.layout, 3, torch.float64)
    recipe = WithContext(energy=MLP(width=8, zero_init=False))
    energy = seeded(lambda: recipe.build(ladder.layout)).double()
    one = ladder.latents(u, c)
    other = Latents(one.u, one.z, one.sigma, -c)
    assert (energy(one) != energy(other)).all()


def test_draws_of_the_composition_have_the_roots_contexts_and_chains_keep_a_given_one():
    ladder = backbone()
    recipe = MultiStage(
        stages=1,
        root=DVPDiffusion(steps=3, blocks=1),
        energy=WithContext(energy=MLP(width=8)),
        sampler=ULA(steps=3, step_size=0.1),
    )
    made = perturbed(seeded(lambda: recipe.build(ladder)).double(), 0.1)
    noise = Noise(0, "s", dtype=torch.float64)
    given = contexts(ladder.layout, 4, torch.float64)
    assert torch.equal(made.sample(ladder, 4, noise, Request(context=given)).context, given)
    assert made.sample(ladder, 4, noise).context.shape == given.shape
    assert context_of(made) == made.root.context == ladder.layout.context


# ------------------------------------------------------------ reasons


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 24}, "prior.channels = 24 is not a multiple of 16"),
        ({"gamma_min": 7.0}, "prior.gamma_min = 7.0 must be below gamma_max = 7.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        prior(backbone(), **options)


def test_a_backbone_without_a_context_is_refused():
    with pytest.raises(ConfigError, match=r'draws a context .* use backbone.type = "dvp"'):
        prior(backbone(pseudo_input="none"))


def test_a_context_that_is_not_square_is_refused():
    layout = attrs.evolve(SMALL_LAYOUT, context=(1, 2, 3))
    with pytest.raises(ConfigError, match=r"context of shape \(C, S, S\), but this backbone expects \(1, 2, 3\)"):
        DVPDiffusion().build(ReferenceBackbone(layout))


def test_an_energy_with_context_needs_one():
    with pytest.raises(ConfigError, match="this backbone has no context"):
        WithContext().build(backbone(pseudo_input="none").layout)
