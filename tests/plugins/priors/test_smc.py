"""Sequential Monte Carlo: its target on Gaussians, samples that are independent of each other, NaN particles."""

import math

import pytest
import torch
from gaussian_ratios import Quadratic, Walk, noise, tensor
from multi_stage_recipes import changed

from hebm.gaussian import GaussianPrior
from hebm.interfaces import EnergyFn, Request
from hebm.noise import Noise
from hebm.particles import Particles
from hebm.sampling import States
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import PoisonedNoise, perturbed, points, seeded
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.labels import Coupling
from hebm_plugins.priors.multi_stage.prior import Contrast, Drawing, MultiStagePrior
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.samplers.ula import ULA

SAMPLES, COUNT = 256, 256
MEANS = (0.6, 1.0)
"""Of N(m, 1) after each stage, the root being N(0, 1)."""


def shift(old, new):
    """log N(u; new, 1) − log N(u; old, 1)."""
    return lambda u: (new - old) * u[:, 0] - (new**2 - old**2) / 2


RATIOS = [shift(0.0, MEANS[0]), shift(*MEANS)]


def start(samples=SAMPLES, count=COUNT):
    return noise("start").normal(samples, count, 1)


def stay(s, u):
    return u


def smc(u, ratios, move, source, threshold):
    """Weigh, resample and move particles u `(n, P, 1)` from stage to stage, as the walk of a prior does."""
    particles = Particles.equal(u)
    for s, ratio in enumerate(ratios, 1):
        log_ratio = ratio(particles.u.flatten(0, 1)).view(u.shape[:2])
        particles = particles.reweighted(log_ratio, threshold, source.derive("resample", s))
        particles = particles.moved(move(s, particles.u.flatten(0, 1)))
    return particles


def refreshed_around(*means):
    """A transition that leaves stage s, N(means[s − 1], 1), invariant."""

    def move(s, u):
        m = means[s - 1]
        return m + 0.6 * (u - m) + 0.8 * noise("move", s).normal(*u.shape)

    return move


def weighted(particles, power=1):
    """The mean over samples of each one's weighted mean."""
    weights = particles.log_weights.softmax(1)
    return float((weights * particles.u[..., 0].pow(power)).sum(1).mean())


# ---------------------------------------------------------------- the target


@pytest.mark.parametrize("move", [stay, refreshed_around(*MEANS)], ids=["stay", "move"])
@pytest.mark.parametrize("threshold", [0.0, 0.8, 1.0])
def test_particles_have_the_moments_of_the_last_stage(threshold, move):
    particles = smc(start(), RATIOS, move, noise("smc"), threshold)
    mean, square = weighted(particles), weighted(particles, 2)
    assert abs(mean - 1.0) < 0.02
    assert abs(square - 2.0) < 0.06


def test_the_chosen_particles_are_draws_of_the_last_stage():
    particles = smc(start(2048, 64), RATIOS, stay, noise("smc"), 0.5)
    u = particles.chosen(noise("choice"))
    assert u.shape == (2048, 1)
    assert abs(u.mean() - 1.0) < 4 / 2048**0.5 + 0.02
    assert abs(u.var() - 1.0) < 4 * (2 / 2048) ** 0.5 + 0.02


def test_a_stage_may_change_the_variance():
    """N(0, 1) exp(−u²/2) = N(0, ½)."""
    particles = smc(start(), [lambda u: -0.5 * u[:, 0].square()], stay, noise("smc"), 0.5)
    assert abs(weighted(particles)) < 0.02
    assert abs(weighted(particles, 2) - 0.5) < 0.02


# ---------------------------------------------------------------- when particles are resampled


def test_a_threshold_of_1_always_resamples_and_of_0_never():
    always = smc(start(), RATIOS, stay, noise("smc"), 1.0)
    assert not always.log_weights.any()
    never = smc(start(), RATIOS, stay, noise("smc"), 0.0)
    assert torch.equal(never.u, start())
    total = sum(ratio(start().flatten(0, 1)) for ratio in RATIOS)
    torch.testing.assert_close(never.log_weights, total.view(SAMPLES, COUNT))


def test_only_samples_below_the_threshold_are_resampled():
    one = [shift(0.0, 0.6)]
    untouched = smc(start(), one, stay, noise("smc"), 0.0)
    threshold = float(untouched.share.median())
    mixed = smc(start(), one, stay, noise("smc"), threshold)
    poor = untouched.share < threshold
    assert 0 < poor.sum() < SAMPLES
    assert not mixed.log_weights[poor].any()
    assert torch.equal(mixed.u[~poor], untouched.u[~poor])
    assert torch.equal(mixed.log_weights[~poor], untouched.log_weights[~poor])


def test_the_share_is_the_lowest_that_weights_had_before_they_were_resampled():
    """At the limit of many particles ESS / P of a shift by d is exp(−d²)."""
    for first in (0.2, 0.6):
        ratios = [shift(0.0, first), shift(first, 0.8)]
        found = smc(start(), ratios, refreshed_around(first, 0.8), noise("smc"), 1.0).share
        assert abs(found.mean() - math.exp(-0.36)) < 0.03


# ---------------------------------------------------------------- samples are independent


def test_a_samples_particles_depend_on_no_other_samples():
    other = start()
    other[1] += 3
    one, two = (smc(u, RATIOS, stay, noise("smc"), 0.8) for u in (start(), other))
    keep = [0, *range(2, SAMPLES)]
    assert torch.equal(one.u[keep], two.u[keep])
    assert torch.equal(one.log_weights[keep], two.log_weights[keep])


@pytest.mark.parametrize("threshold", [0.0, 0.8, 1.0])
def test_a_nan_particle_spoils_its_sample_and_no_other(threshold):
    spoiled = start()
    spoiled[1, 3] = math.nan
    one, two = (smc(u, RATIOS, stay, noise("smc"), threshold) for u in (start(), spoiled))
    assert two.log_weights.isnan().any(1).tolist() == [i == 1 for i in range(SAMPLES)]
    assert two.share[1].isnan()
    a, b = (particles.chosen(noise("choice")) for particles in (one, two))
    keep = [0, *range(2, SAMPLES)]
    assert torch.equal(a[keep], b[keep])
    assert b[1].isnan().all()


def test_a_nan_weight_alone_makes_the_chosen_particle_nan():
    log_weights = torch.zeros(2, 3).double()
    log_weights[0, 2] = math.nan
    u = Particles(start(2, 3), log_weights, torch.ones(2)).chosen(noise("choice"))
    assert u.isnan().flatten().tolist() == [True, False]


# ---------------------------------------------------------------- as a prior draws

RECIPE = MultiStage(
    stages=2,
    energy=MLP(width=8, zero_init=False),
    sampler=ULA(steps=2, step_size=0.2),
    drawing=Drawing(mode="smc", particles=4),
)


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone).double()


def made(backbone, **fields):
    prior = perturbed(seeded(lambda: changed(RECIPE, **fields).build(backbone)), 0.3).double()
    for stage in prior.stages():
        stage.start(backbone, noise("begin", stage.key))
    return prior.eval()


def test_rows_64_to_127_alone_are_those_of_the_whole(backbone):
    prior = made(backbone)
    source = Noise(0, "sample", dtype=torch.float64)
    whole, alone = prior.sample(backbone, 128, source), prior.sample(backbone, 64, source.at(64))
    torch.testing.assert_close(alone.u, whole.u[64:], rtol=0, atol=1e-12)
    torch.testing.assert_close(alone.diagnostics["ess"], whole.diagnostics["ess"][64:])


def test_the_smallest_effective_share_of_each_sample_is_told(backbone):
    draw = made(backbone).sample(backbone, 9, noise("sample"))
    assert set(draw.diagnostics) == {"ess"}
    assert draw.diagnostics["ess"].shape == (9,)
    assert ((draw.diagnostics["ess"] > 0.25 - 1e-9) & (draw.diagnostics["ess"] < 1)).all()


def test_a_sample_whose_noise_is_nan_is_nan_and_alone(backbone):
    prior = made(backbone)
    source = PoisonedNoise(0, "sample", dtype=torch.float64)
    draw = prior.sample(backbone, 5, source)
    assert draw.u.isnan().all(1).tolist() == [False, True, False, False, False]
    assert torch.equal(draw.u.isnan().any(1), draw.u.isnan().all(1))


def test_fixed_coordinates_are_as_given(backbone):
    given = points(6, backbone.layout.dim, torch.float64, "given")
    fixed = backbone.layout.fix(given, {0})
    u = made(backbone).sample(backbone, 6, noise("sample"), Request(fixed=fixed)).u
    assert torch.equal(u[:, fixed.mask], given[:, fixed.mask])
    assert not torch.equal(fixed.free(u), fixed.free(given))


def test_an_observer_sees_one_particle_of_each_sample_over_all_stages(backbone):
    states, steps = States(), []

    def observe(name, step, state, info):
        states(name, step, state, info)
        steps.append((name, step))
        assert info.value.shape == (6,)
        assert info.grad.shape == state[0].shape

    made(backbone).sample(backbone, 6, noise("sample"), Request(observe=observe))
    assert steps == [("stage 1", 0), ("stage 1", 1), ("stage 2", 0), ("stage 2", 1)]
    assert {u.shape for u in states.u} == {(6, backbone.layout.dim)}


def test_particles_reach_what_a_short_chain_does_not():
    """N(1, 1) from N(0, 1) in two stages: three steps of h = 0.05 go 7 % of the way."""
    backbone = Walk()
    ratios = [Quadratic() for _ in MEANS]
    for old, new, ratio in zip((0.0, MEANS[0]), MEANS, ratios, strict=True):
        ratio.set(tensor([[0.0]]), tensor([new - old]), tensor((old**2 - new**2) / 2))
    means = []
    for mode in ("joint", "smc"):
        drawing = Drawing(mode=mode, particles=32)
        root = GaussianPrior(backbone.layout)
        prior = MultiStagePrior(root, ratios, ULA(steps=3, step_size=0.05), Coupling(), drawing, Contrast(), 1)
        prior.trained_stages = 2
        means.append(float(prior.sample(backbone, 2000, noise("sample")).u.mean()))
    assert abs(means[0] - 0.07) < 0.09
    assert abs(means[1] - 1.0) < 0.1


class ClassSlopes(EnergyFn):
    """l_y(u) = slope_y u of each class y, in one dimension."""

    def __init__(self, *slopes):
        super().__init__()
        self.slopes = tensor(slopes)

    def forward(self, latents, t=None):
        u = latents.u
        classes = u * self.slopes + math.log(len(self.slopes))
        return torch.cat([classes, torch.zeros_like(u)], dim=1).unsqueeze(1)


@pytest.mark.parametrize(
    ("label", "slope", "mean", "var"), [(0, 0.0, 0.0, 2.0), (-1, 0.0, 0.0, 2.0), (0, 1.0, 1.76, 1.42)]
)
def test_particles_of_a_class_have_the_target_of_the_last_chain(label, slope, mean, var):
    """The last stage alone counts the label: log p(u|y) = f_1 + l_{2,y} − |u|²/2, with exp f_1 = cosh u for l_1 = ±u.

    At l_2 = 0 it is a mixture of N(1, 1) and N(−1, 1) whatever the class; l_{2,0} = u makes it one of N(2, 1) and
    N(0, 1), with weights e² and 1.
    """
    backbone, samples = Walk(), 1000
    prior = MultiStagePrior(
        root=GaussianPrior(backbone.layout),
        ratios=[ClassSlopes(1.0, -1.0), ClassSlopes(slope, 0.0)],
        sampler=ULA(steps=2, step_size=0.05),
        coupling=Coupling((0,), logits=2),
        drawing=Drawing(mode="smc", particles=512),
        contrast=Contrast(),
        dim=1,
    ).double()
    prior.trained_stages = 2
    u = prior.sample(backbone, samples, noise("class"), Request(labels=torch.full((samples,), label))).u
    assert abs(float(u.mean()) - mean) < 0.2
    assert abs(float(u.var()) - var) < 0.3


@pytest.mark.parametrize("weight", [-math.inf, math.inf])
def test_weights_that_are_all_0_or_infinite_give_no_draw(weight):
    u = torch.zeros(2, 4, 3)

    def log_ratio(rows):
        found = torch.zeros(2, 4)
        found[0] = weight
        return found.flatten()

    particles = smc(u, [log_ratio], lambda s, rows: rows, Noise(0, "smc"), 0.5)
    drawn = particles.chosen(Noise(0, "choice"))
    assert drawn[0].isnan().all()
    assert drawn[1].isfinite().all()
