"""The diffusion prior: its coefficients, its conditional densities in closed form, levels, labels, held coordinates."""

import attrs
import pytest
import torch

from hebm.densities import ConditionalPrior
from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec, Progress, Request
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.sampling import Trace, run
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, points, seeded
from hebm.tilts import Tilt
from hebm_plugins.energies.mlp_time import MLPTime
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.diffusion.schedule import MOST, schedule
from hebm_plugins.priors.labels import Coupling, couple
from hebm_plugins.samplers.ula import ULA

SMALL = Diffusion(energy=MLPTime(width=8, zero_init=False), sampler=ULA(steps=3, step_size=1.0), step_size=0.01)
ROWS = 6


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone).double()


def made(backbone, **fields):
    return perturbed(seeded(lambda: attrs.evolve(SMALL, **fields).build(backbone))).double().eval()


def posterior_of(backbone, rows=ROWS):
    with torch.no_grad():
        return Posterior(backbone.latents(points(rows, backbone.layout.dim, torch.float64)).detach())


def noise(*path):
    return Noise(0, *path, dtype=torch.float64)


# ---------------------------------------------------------------- coefficients


@pytest.mark.parametrize("levels", [2, 3, 6, 100, MOST])
def test_small_steps_multiply_up_to_the_same_noise_whatever_the_number_of_levels(levels):
    made = schedule(levels)
    assert made.levels == levels
    assert (made.alpha.square() + made.sigma.square() - 1).abs().max() < 1e-12
    torch.testing.assert_close(made.alpha_cum[-1], schedule(2).alpha_cum[-1])
    assert (made.sigma_cum.diff() > 0).all()


@pytest.mark.parametrize("levels", [1, MOST + 1])
def test_other_numbers_of_levels_are_an_error_that_says_what_to_do(backbone, levels):
    with pytest.raises(ConfigError, match=rf"prior.levels = {levels}.*2 to 501.*'joint'"):
        attrs.evolve(SMALL, levels=levels).build(backbone)


def test_a_clean_level_0_is_the_posteriors_u_itself(backbone):
    u = points(ROWS, backbone.layout.dim, torch.float64)
    level = torch.zeros(ROWS, dtype=torch.int64)
    noised = made(backbone).diffused(u, level, noise("a"))
    assert torch.equal(made(backbone, first_level="paper").diffused(u, level, noise("a")), u)
    assert 0.005 < (noised - u).std() < 0.02


def test_the_forward_process_has_the_moments_of_its_formula(backbone):
    prior = made(backbone)
    u = torch.ones(20000, backbone.layout.dim, dtype=torch.float64)
    level = torch.full((20000,), 1)
    low, above = prior.pair(u, level, noise("a"))
    forward = prior.levels.forward
    assert abs(low.mean() - forward.alpha_cum[1]) < 0.01
    assert abs(low.std() - forward.sigma_cum[1]) < 0.01
    assert abs(above.mean() - forward.alpha_cum[2]) < 0.01
    step = above - forward.alpha[2] * low
    assert abs(step.std() - forward.sigma[2]) < 0.01


def test_energy_scale_and_localising_term_are_options(backbone):
    official, paper = made(backbone).levels, made(backbone, energy_scale="paper", last_level="paper").levels
    assert official.recovery.tolist() == [1, 1, 0]
    assert paper.recovery.tolist() == [1, 1, 1]
    assert torch.equal(official.energy_scale, official.scale)
    assert torch.equal(paper.energy_scale, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(paper.scale, paper.sigma.square())


# ---------------------------------------------------------------- chains


def test_a_step_of_a_level_is_the_published_one(backbone):
    """u + ½ ∇f − (b/2) [u + m α (α u − u_{t+1}) / σ²] + √b ξ."""
    prior, above = made(backbone), points(ROWS, backbone.layout.dim, torch.float64)
    t = torch.tensor([0, 1, 2, 0, 1, 2])
    density = prior._conditional(backbone, t, above, None)
    got = run(prior.sampler, density, above, noise("chain"), 1).u
    u = above.clone().requires_grad_()
    (grad,) = torch.autograd.grad(prior.energy(backbone.latents(u), t).sum(), u)
    pick = prior.levels.at
    alpha, sigma, m, b = (pick(name, t, above) for name in ("alpha", "sigma", "recovery", "scale"))
    drift = above + m * alpha * (alpha * above - above) / sigma**2
    expected = above + 0.5 * grad - 0.5 * b * drift + b.sqrt() * noise("chain").normal(*above.shape)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_sampling_goes_down_the_levels_from_a_draw_of_the_root(backbone):
    prior = made(backbone)
    u = prior.root.sample(backbone, ROWS, noise("s").derive("base")).u
    for t in (2, 1, 0):
        u = level(prior, backbone, torch.full((ROWS,), t), u, noise("s").derive("chain", t))
    assert torch.equal(prior.sample(backbone, ROWS, noise("s")).u, u)


def level(prior, backbone, t, above, source, labels=None):
    """u_t after a chain on p(u_t | u_{t+1}) from u_{t+1}."""
    return run(prior.sampler, prior._conditional(backbone, t, above, None, labels), above, source).u


def test_an_observer_is_told_the_level_and_the_step_within_it(backbone):
    seen = []
    observe = lambda name, k, state, info: seen.append((name, k))  # noqa: E731
    made(backbone).sample(backbone, ROWS, noise("s"), Request(steps=4, observe=observe))
    assert seen == [(f"level {t}", k) for t in (2, 1, 0) for k in range(4)]
    trace = Trace()
    made(backbone).sample(backbone, ROWS, noise("s"), Request(observe=trace))
    assert len(trace.values) == 9


@pytest.mark.parametrize("fields", [{}, {"energy_scale": "paper", "last_level": "paper", "first_level": "paper"}])
def test_folded_chains_are_equal_in_evaluation(backbone, fields):
    prior = made(backbone, **fields)
    other = made(backbone, folded_chains=False, **fields)
    a, b = (model.sample(backbone, ROWS, noise("s")).u for model in (prior, other))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_fixed_coordinates_are_noised_at_every_level_and_as_given_at_the_end(backbone):
    prior = made(backbone)
    given = 5 * points(ROWS, backbone.layout.dim, torch.float64, "given")
    fixed = backbone.layout.fix(given, {0})
    u = prior.sample(backbone, ROWS, noise("s"), Request(fixed=fixed)).u
    assert torch.equal(u[:, fixed.mask], given[:, fixed.mask])
    assert not torch.equal(fixed.free(u), fixed.free(prior.sample(backbone, ROWS, noise("s")).u))


def test_regenerating_moves_what_is_fixed_through_level_1_and_draws_the_rest(backbone):
    prior = made(backbone)
    u = 3 * points(ROWS, backbone.layout.dim, torch.float64, "given")
    fixed, latents = backbone.layout.fix(u, {0}), backbone.latents(u)
    path = prior.transitions(backbone)
    again, other = (prior.regenerate(backbone, latents, fixed, noise(name), path) for name in ("r", "s"))
    correlation = torch.corrcoef(torch.stack([again[:, fixed.mask].flatten(), u[:, fixed.mask].flatten()]))[0, 1]
    assert correlation > 0.6
    assert not torch.equal(again, other)


# ---------------------------------------------------------------- learning


def test_the_loss_is_the_contrast_over_the_step_of_each_samples_level(backbone):
    prior, posterior = made(backbone), posterior_of(backbone)
    loss = prior.objective(backbone, posterior, noise("o"), Progress(0, 1))
    t = noise("o").derive("level").integers(3, ROWS)
    pair = prior.pair(posterior.latents.u, t, noise("o").derive("forward"))
    end = level(prior, backbone, t, pair.above, noise("o").derive("chain"))
    f = [prior.energy(backbone.latents(u), t).sum((1, 2)) for u in (end, pair.u)]
    torch.testing.assert_close(loss.total, ((f[0] - f[1]) / prior.levels.scale[t]).mean())
    assert len(t.unique()) > 1


def test_learning_moves_samples_to_the_posterior(backbone):
    """The posterior's u is N(1.5, 0.3²): after learning, so are the samples, roughly."""
    torch.manual_seed(0)
    single = backbone.float()
    recipe = Diffusion(energy=MLPTime(width=32), sampler=ULA(steps=20, step_size=1.0))
    prior = recipe.build(single)
    optimizer = torch.optim.Adam(prior.energy.parameters(), lr=2e-3)
    for step in range(150):
        u = 1.5 + 0.3 * Noise(0, "data", step).normal(128, single.layout.dim)
        with torch.no_grad():
            posterior = Posterior(single.latents(u).detach())
        optimizer.zero_grad()
        prior.objective(single, posterior, Noise(0, "train", step), Progress(step, 150)).total.backward()
        optimizer.step()
    mean = prior.eval().sample(single, 500, Noise(1)).u.mean()
    assert 1.0 < mean < 2.0


def test_it_has_no_unnormalised_marginal(backbone):
    assert made(backbone).density(backbone) is None


# ---------------------------------------------------------------- labels

SCALE = torch.tensor([[1.0], [0.1]])
LOGITS = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.5, -1.0]], [[0.0, 0.0, 0.0], [4.0, 1.0, 2.0]]])


def test_coupled_energies_are_marginal_or_of_the_class_asked_for():
    coupling = Coupling((0, None), 3)
    marginal = coupling.tilt(LOGITS, SCALE)
    torch.testing.assert_close(marginal[0, 0], LOGITS[0, 0].logsumexp(0))
    torch.testing.assert_close(marginal[1, 0], 0.1 * (LOGITS[1, 0] / 0.1).logsumexp(0))
    torch.testing.assert_close(marginal[:, 1], LOGITS[:, 1, 0])
    asked = coupling.tilt(LOGITS, SCALE, torch.tensor([2, -1]))
    assert asked[0, 0] == 3.0
    assert asked[1, 0] == marginal[1, 0]


def test_the_gradient_of_a_class_is_that_of_the_marginal_plus_its_log_probability():
    logits = LOGITS.clone().requires_grad_()
    coupling, label = Coupling((0, 0), 3), torch.tensor([1, 2])
    conditional = coupling.tilt(logits, SCALE, label).sum()
    log_probability = -SCALE.squeeze(1) * coupling.cross_entropy(logits, SCALE, label)
    other = coupling.tilt(logits, SCALE).sum() + log_probability.sum()
    a, b = (torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (conditional, other))
    torch.testing.assert_close(a, b)


def test_attributes_are_carried_by_layers_of_their_own():
    coupling = couple(0, 2, (1, 0), 3)
    assert coupling == Coupling((1, 0, None), 2, 2)
    logits = torch.arange(12.0).reshape(2, 3, 2)
    asked = coupling.tilt(logits, torch.ones(2, 1), torch.tensor([[1, 0], [-1, 1]]))
    assert asked[0].tolist() == [0.0, 3.0, 4.0]
    assert asked[1, 0] == 7.0
    assert asked[1, 1] == logits[1, 1].logsumexp(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 2, ()), "not both"),
        ((10, 0, (3,)), r"prior.label_layers: \[3\] is not among the 3"),
        ((0, 4, ()), r"prior.attributes = 4: each attribute needs a different layer, and there are 3"),
        ((0, 2**31 - 1, ()), r"prior.attributes = 2147483647: each attribute needs"),
        ((0, 2, (1,)), "name 2 different layers"),
        ((0, 2, (1, 1)), "name 2 different layers"),
    ],
)
def test_couplings_that_do_not_fit_are_errors(arguments, message):
    with pytest.raises(ConfigError, match=message):
        couple(*arguments, 3)


@pytest.mark.parametrize(("where", "guided"), [("first", [0]), ("every", [0, 1, 2])])
def test_labels_guide_the_levels_that_they_are_coupled_to(backbone, where, guided):
    prior = made(backbone, classes=3, label_levels=where)
    above, label = points(ROWS, backbone.layout.dim, torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    for t in range(3):
        at = torch.full((ROWS,), t)
        plain, asked = (level(prior, backbone, at, above, noise("c"), labels) for labels in (None, label))
        assert torch.equal(plain, asked) == (t not in guided)


def test_the_cross_entropy_is_that_of_the_positives_at_guided_levels(backbone):
    prior, posterior = made(backbone, classes=3), posterior_of(backbone)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    loss = prior.objective(backbone, posterior, noise("o"), Progress(0, 1), labels)
    t = noise("o").derive("level").integers(3, ROWS)
    assert (t == 0).any()
    pair = prior.pair(posterior.latents.u, t, noise("o").derive("forward"))
    logits = prior.energy(backbone.latents(pair.u), t)
    expected = sum(
        torch.nn.functional.cross_entropy(logits[i, e : e + 1] / prior.levels.scale[0], labels[i : i + 1])
        for i in range(ROWS)
        for e in (0, 1)
        if t[i] == 0
    )
    torch.testing.assert_close(loss.terms["cross_entropy"], expected.detach() / ROWS)


def test_a_data_set_without_labels_cannot_train_them(backbone):
    prior = made(backbone, classes=3)
    with pytest.raises(ConfigError, match=r"these images have no labels; set both to 0"):
        prior.objective(backbone, posterior_of(backbone), noise("o"), Progress(0, 1))


@pytest.mark.parametrize(
    ("fields", "images", "message"),
    [
        ({"classes": 3}, ImageSpec(1, 8, 8, classes=("a", "b")), r"prior\.classes = 3, but the images have 2 classes"),
        ({"classes": 3}, ImageSpec(1, 8, 8), r"prior\.classes = 3, but the images have 0 classes"),
        ({"attributes": 2}, ImageSpec(1, 8, 8, attributes=("x",)), r"prior\.attributes = 2.*have 1 attributes"),
    ],
)
def test_labels_must_be_those_of_the_images(backbone, fields, images, message):
    with pytest.raises(ConfigError, match=message):
        made(backbone, **fields).check(images)


def test_labels_that_fit_and_no_labels_pass(backbone):
    made(backbone).check(ImageSpec(1, 8, 8, classes=("a", "b")))
    made(backbone, classes=2).check(ImageSpec(1, 8, 8, classes=("a", "b")))
    made(backbone, attributes=1).check(ImageSpec(1, 8, 8, attributes=("x",)))


def test_sampling_a_class_is_sampling_with_its_label(backbone):
    prior = made(backbone, classes=3)
    label = torch.full((ROWS,), 2)
    assert prior.labelled
    assert not torch.equal(
        prior.sample(backbone, ROWS, noise("s"), Request(label)).u, prior.sample(backbone, ROWS, noise("s")).u
    )


# ---------------------------------------------------------------- closed form


def closed_form():
    import json
    from pathlib import Path

    path = Path(__file__).parents[2] / "vectors" / "ebm" / "closed_form.json"
    return json.loads(path.read_text())["diffusion_schedule_and_F0"]


@pytest.mark.parametrize("case", closed_form(), ids=lambda case: f"T{case['T']}")
def test_schedules_are_the_published_ones(case):
    made = schedule(case["T"])
    for name in ("alpha", "sigma", "alpha_cum", "sigma_cum"):
        torch.testing.assert_close(
            getattr(made, name), torch.tensor(case[name], dtype=torch.float64), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("case", closed_form(), ids=lambda case: f"T{case['T']}")
def test_without_energy_every_level_has_its_exact_mean_variance_and_rate(backbone, case):
    prior = attrs.evolve(SMALL, levels=case["T"], step_size=3e-5).build(backbone)
    above = torch.ones(1, backbone.layout.dim, dtype=torch.float64)
    for step in case["steps"]:
        t = torch.tensor([step["t"]])
        coefficients = [prior.levels.at(n, t, above) for n in ("alpha", "sigma", "recovery", "energy_scale", "scale")]
        density = ConditionalPrior(backbone, Tilt(lambda latents: 0 * latents.u), above, *coefficients)
        assert float(density.scale) == pytest.approx(step["eff_step_for_3e_5"], rel=1e-9)
        mean = step["exact_cond_mean_coef"] * above
        at, shifted = (density.value_and_grad(u).grad for u in (mean, mean + 1))
        assert at.abs().max() < 1e-12
        variance = 1 / (at - shifted)[0, 0]
        factor = density.factor()
        torch.testing.assert_close(factor.mean.expand_as(mean), mean, rtol=1e-12, atol=0)
        assert float(factor.std[0, 0]) ** 2 == pytest.approx(step["exact_cond_var"], rel=1e-12)
        assert float(variance) == pytest.approx(step["exact_cond_var"], rel=1e-12)
        relaxed = 1 - 0.5 * float(density.scale) / float(variance)
        assert relaxed == pytest.approx(step["relax_factor_per_step"], rel=1e-12)
        stationary = float(variance) / (1 - 0.25 * float(density.scale) / float(variance))
        assert stationary == pytest.approx(step["ula_stationary_var"], rel=1e-9)
