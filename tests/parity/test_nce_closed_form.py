"""Ratios of Gaussians learned by contrast, and draws from them, against their closed forms."""

import math

import pytest
import torch
from ebm_vectors import closed_form
from gaussian_ratios import Exact, Quadratic, Walk, coefficients, noise, tensor

from hebm.gaussian import GaussianPrior
from hebm.interfaces import Progress
from hebm.latents import Posterior
from hebm.particles import select
from hebm_plugins.priors.labels import Coupling
from hebm_plugins.priors.multi_stage.prior import MultiStagePrior
from hebm_plugins.priors.multi_stage.settings import Contrast, Drawing
from hebm_plugins.samplers.ula import ULA

N = 100_000
TWO_LOG_2 = 2 * math.log(2)

PLANE, LINE, SIR = (closed_form(key) for key in ("nce_gaussian_2d", "nce_gaussian_1d", "sir_exponential_tilt"))
PATH = PLANE["geometric_path_stages"]


def gaussian(case, name=""):
    """Return the mean and the covariance of a recorded Gaussian."""
    return tensor(case[f"{name}mean"]), tensor(case[f"{name}cov"])


BASE, TARGET = gaussian(PLANE, "base_"), gaussian(PLANE, "target_")


def draws(mean, cov, n, path):
    return mean + noise(path).normal(n, len(mean)) @ torch.linalg.cholesky(cov).T


def prior_of(backbone, energies, loss="joint"):
    """Its negatives are new draws of its chain at every step."""
    contrast, root = Contrast(loss=loss, negatives="chain"), GaussianPrior(backbone.layout)
    return MultiStagePrior(root, energies, ULA(steps=1), Coupling(), Drawing(), contrast, backbone.layout.dim)


def stage_loss(prior, m, backbone, z, negatives=None):
    """The objective of stage m as a function of the weights; exact negatives N(mean, cov) for m > 1."""
    stage = prior.stages()[m - 1]
    stage.start(backbone, noise("begin"))
    if negatives is not None:
        prior.sampler = Exact.of(*negatives)
    posterior = Posterior(backbone.invert(backbone.layout.split(z)))
    return lambda: stage.objective(backbone, posterior, noise("fit", m), Progress(0, 1))


def fitted(prior, m, backbone, z, negatives=None):
    """The loss of stage m after LBFGS."""
    loss = stage_loss(prior, m, backbone, z, negatives)
    optimizer = torch.optim.LBFGS(prior.ratios[m - 1].parameters(), max_iter=40, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        total = loss().total
        total.backward()
        return total

    optimizer.step(closure)
    return float(loss().total.detach())


def log_ratio(energy, backbone, points):
    with torch.no_grad():
        return energy(backbone.latents(points)).sum((1, 2))


def rms(error):
    return float(error.square().mean().sqrt())


# ---------------------------------------------------------------- one stage


@pytest.fixture(scope="module")
def plane():
    """A stage fitted on the plane: (backbone, prior, its loss, draws of the target)."""
    backbone, z = Walk(dim=2), draws(*TARGET, N, "target")
    prior = prior_of(backbone, [Quadratic(dim=2)])
    return backbone, prior, fitted(prior, 1, backbone, z), z


def test_the_learned_log_ratio_is_the_true_one(plane):
    backbone, prior, _, z = plane
    exact = Quadratic(dim=2).set(*coefficients(TARGET, BASE))
    learned = prior.ratios[0]
    for points in (z, noise("base").normal(N, 2)):
        difference = log_ratio(learned, backbone, points) - log_ratio(exact, backbone, points)
        assert rms(difference) < 0.03
    at = tensor(PLANE["points"])
    torch.testing.assert_close(log_ratio(exact, backbone, at), tensor(PLANE["log_ratio"]))
    error = log_ratio(learned, backbone, at) - tensor(PLANE["log_ratio"])
    assert error.abs().max() < 0.02 * tensor(PLANE["log_ratio"]).abs().max()
    probability = log_ratio(learned, backbone, at).sigmoid()
    torch.testing.assert_close(probability, tensor(PLANE["D_opt"]), rtol=0, atol=0.01)


def test_the_loss_of_the_learned_ratio_is_the_optimum(plane):
    _, _, loss, _ = plane
    assert loss == pytest.approx(PLANE["bce_opt"], abs=0.005)


def test_the_loss_of_a_zero_logit_is_2_log_2():
    backbone = Walk(dim=2)
    zero = prior_of(backbone, [Quadratic(dim=2)])
    loss = stage_loss(zero, 1, backbone, draws(*TARGET, 100, "target"))()
    assert float(loss.total.detach()) == pytest.approx(PLANE["bce_at_zero_logit"], abs=1e-12)


def test_the_mean_log_ratio_of_the_target_is_its_divergence_from_the_base(plane):
    backbone, prior, _, z = plane
    assert float(log_ratio(prior.ratios[0], backbone, z).mean()) == pytest.approx(PLANE["kl_target_base"], abs=0.03)


def test_on_the_line_the_loss_of_the_learned_ratio_is_the_optimum_too():
    backbone = Walk()
    target = tensor([LINE["target_mean"]]), tensor([[LINE["target_var"]]])
    z = draws(*target, N // 2, "target")
    prior = prior_of(backbone, [Quadratic()])
    assert fitted(prior, 1, backbone, z) == pytest.approx(LINE["bce_opt"], abs=0.01)
    kl = float(log_ratio(prior.ratios[0], backbone, z).mean())
    assert kl == pytest.approx(LINE["kl_target_base"], abs=0.15)


# ---------------------------------------------------------------- stages along a path


@pytest.fixture(scope="module")
def path():
    """Three stages, each fitted on exact draws of neighbouring points of the path: (backbone, prior)."""
    backbone = Walk(dim=2)
    prior = prior_of(backbone, [Quadratic(dim=2) for _ in PATH])
    for m, case in enumerate(PATH, 1):
        before = None if m == 1 else gaussian(PATH[m - 2])
        fitted(prior, m, backbone, draws(*gaussian(case), N // 2, f"stage-{m}"), before)
    return backbone, prior


def test_each_stage_learns_the_ratio_to_the_one_before(path):
    backbone, prior = path
    for m, case in enumerate(PATH, 1):
        z = draws(*gaussian(case), 10_000, "test")
        exact = Quadratic(dim=2).set(*coefficients(gaussian(case), BASE if m == 1 else gaussian(PATH[m - 2])))
        torch.testing.assert_close(
            log_ratio(exact, backbone, tensor(PLANE["points"])), tensor(case["log_ratio_vs_previous"])
        )
        assert rms(log_ratio(prior.ratios[m - 1], backbone, z) - log_ratio(exact, backbone, z)) < 0.03


def test_the_stages_log_ratios_add_up(path):
    backbone, prior = path
    z = draws(*TARGET, 10_000, "test")
    exact = log_ratio(Quadratic(dim=2).set(*coefficients(TARGET, BASE)), backbone, z)
    with torch.no_grad():
        total = prior.tilt(backbone.latents(z)).sum(1)
    assert prior.trained_stages == 3
    assert rms(total - exact) < 0.04
    assert rms(exact) > 1


def test_the_optimal_loss_against_the_target_rises_toward_2_log_2():
    """The nearer p_m comes, the less there is to tell apart."""
    backbone, z, losses = Walk(dim=2), draws(*TARGET, N, "target"), []
    befores = [BASE, *map(gaussian, PATH)]
    for m, before in enumerate(befores, 1):
        energies = [Quadratic(dim=2) for _ in range(m)]
        energies[-1].set(*coefficients(TARGET, before))
        prior = prior_of(backbone, energies)
        losses.append(float(stage_loss(prior, m, backbone, z, None if m == 1 else before)().total.detach()))
    expected = [case["bce_opt_target_vs_previous"] for case in PATH] + [PATH[-1]["bce_opt_target_vs_this"]]
    assert losses == pytest.approx(expected, abs=0.005)
    assert sorted(losses) == losses
    assert losses[-1] == pytest.approx(TWO_LOG_2, abs=1e-9)


# ---------------------------------------------------------------- sampling importance resampling


@pytest.fixture(scope="module")
def tilted():
    a = SIR["a"]
    return select(lambda u: a * u[..., 0] - a**2 / 2, 4000, 1, 500, noise("sir"))


def test_resampled_draws_have_the_moments_of_an_exponential_tilt(tilted):
    assert float(tilted.u.mean()) == pytest.approx(SIR["target_mean"], abs=0.05)
    assert float(tilted.u.var()) == pytest.approx(SIR["target_var"], abs=0.05)


def test_the_effective_share_is_its_limit(tilted):
    assert float(tilted.share.mean()) == pytest.approx(SIR["ess_fraction_limit"], abs=0.01)


def test_two_proposals_are_too_few():
    """A negative control: the mean is that of the better of two, not the target's."""
    a = SIR["a"]
    u = select(lambda u: a * u[..., 0], 4000, 1, 2, noise("sir")).u
    assert 0.2 < float(u.mean()) < 0.55


def test_resampling_by_a_learned_ratio_gives_the_target(plane):
    backbone, prior, _, _ = plane

    def log_weight(u):
        return log_ratio(prior.ratios[0], backbone, u.flatten(0, 1)).view(u.shape[:2])

    u = select(log_weight, 4000, 2, 1000, noise("sir")).u
    assert (u.mean(0) - TARGET[0]).abs().max() < 0.05
    assert (u.T.cov() - TARGET[1]).abs().max() < 0.05


# ---------------------------------------------------------------- a logit per layer is biased, a joint one is not


@pytest.mark.parametrize(
    ("loss", "slopes", "constants"), [("joint", (1.0, 0.0), -0.5), ("per-layer", (1.0, 0.5), -0.75)]
)
def test_a_shift_of_the_top_layer_is_counted_once_by_a_joint_logit_alone(loss, slopes, constants):
    """Base z_2 ~ N(0, 1), z_1|z_2 ~ N(z_2, 1); target z_2 ~ N(1, 1): log r = z_2 − ½; per layer + (z_1 − ½)/2."""
    backbone = Walk(layers=2)
    u = noise("target").normal(N // 2, 2)
    u[:, 0] += 1
    prior = prior_of(backbone, [Quadratic(layers=2, linear=True)], loss)
    fitted(prior, 1, backbone, backbone.latents(u).flat_z)
    energy = prior.ratios[0]
    torch.testing.assert_close(energy.l.detach().squeeze(1), tensor(slopes), rtol=0, atol=0.04)
    assert float(energy.c.detach().sum()) == pytest.approx(constants, abs=0.04)


def test_the_biased_product_has_the_wrong_means():
    """log r = z_2 − ½ + (z_1 − ½)/2 moves the means to 1.5 and 2 instead of 1 and 1."""
    backbone, means = Walk(layers=2), {}
    for loss, slopes in (("joint", (1.0, 0.0)), ("per-layer", (1.0, 0.5))):
        energy = Quadratic(layers=2, linear=True)
        with torch.no_grad():
            energy.l.copy_(tensor(slopes).unsqueeze(1))
        prior = prior_of(backbone, [energy], loss)
        prior.stages()[0].start(backbone, noise("begin"))
        prior.sampler = ULA(steps=40, step_size=0.4)
        z = backbone.latents(prior.sample(backbone, 4000, noise("s")).u).flat_z
        means[loss] = z.mean(0).tolist()
    assert means["joint"] == pytest.approx([1.0, 1.0], abs=0.1)
    assert means["per-layer"] == pytest.approx([1.5, 2.0], abs=0.1)
