"""Closed forms: densities, gradients, log-determinants and stationary moments that are known exactly."""

import pytest
import torch
from ebm_vectors import close, closed_form
from torch import nn
from torch.distributions import MultivariateNormal

from hebm.densities import LatentSpace, TiltedPrior
from hebm.interfaces import Backbone, Batch, InferringBackbone, Progress
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import GaussianPixels
from hebm.noise import Noise
from hebm.sampling import run
from hebm.testing.subjects import GaussianTarget
from hebm.tilts import Tilt
from hebm_plugins.samplers.langevin import Langevin
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.ula import ULA

CHAINS = 20_000


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def noise(*path):
    return Noise(0, *path, dtype=torch.float64)


def start(dim):
    return noise("start").normal(CHAINS, dim)


def assert_moments(sample, mean, cov):
    """Mean and covariance within 4 standard errors."""
    mean, cov, n = tensor(mean), tensor(cov), len(sample)
    var = cov.diagonal()
    errors = (sample.mean(0) - mean).abs() / (var / n).sqrt()
    assert errors.max() < 4, f"mean off by {errors.max():.1f} standard errors"
    centred = sample - mean
    errors = (centred.T @ centred / n - cov).abs() / ((var.outer(var) + cov.square()) / n).sqrt()
    assert errors.max() < 4, f"covariance off by {errors.max():.1f} standard errors"


class Linear(Backbone):
    """One or two layers: z_top = u_top, z_1 = A z_top + b + s(z_top) u_1."""

    def __init__(self, sizes, a=None, b=0.0, s=lambda top: torch.ones_like(top[:, :1])):
        super().__init__()
        self.layout = LatentLayout(tuple((size,) for size in sizes))
        self.a, self.b, self.s = a, b, s

    def _conditional(self, top):
        return top @ self.a.T + self.b, self.s(top)

    def latents(self, u, context=None):
        parts = self.layout.split(u)
        z, sigma = [parts[0]], [torch.ones_like(parts[0])]
        if len(parts) > 1:
            mean, std = self._conditional(z[0])
            z, sigma = [*z, mean + std * parts[1]], [*sigma, std]
        return Latents(u, tuple(z), tuple(sigma))

    def invert(self, z, context=None):
        u, sigma = [z[0]], [torch.ones_like(z[0])]
        if len(z) > 1:
            mean, std = self._conditional(z[0])
            u, sigma = [*u, (z[1] - mean) / std], [*sigma, std]
        return Latents(self.layout.join(u), tuple(z), tuple(sigma))

    def likelihood(self, latents):
        return GaussianPixels(latents.z[-1].reshape(len(latents.u), 1, 1, -1), 1.0)


# ---------------------------------------------------------------- tilted Gaussian

TILTED = closed_form("tilted_gaussian")


@pytest.fixture
def tilted():
    return TiltedPrior(Linear((3,)), quadratic(tensor(TILTED["a"]), tensor(TILTED["B"])))


def quadratic(a, b):
    def tilt(latents):
        z = latents.flat_z
        return (z @ a - 0.5 * ((z @ b) * z).sum(1)).unsqueeze(1)

    return Tilt(tilt)


def test_tilted_gaussian_values_and_gradients(tilted):
    u = tensor(TILTED["points"])
    close(tilted.remainder(u), tensor(TILTED["f"]))
    value, grad = tilted.value_and_grad(u)
    close(grad, tensor(TILTED["grad_log_unnormalised"]))
    normalised = tensor(TILTED["log_density"])
    constant = value - normalised
    close(constant, constant[:1].expand_as(constant))


def test_mala_has_the_moments_of_the_tilted_gaussian(tilted):
    chain = run(MALA(step_size=0.35), tilted, start(3), noise("chain"), 60)
    assert_moments(chain.u, TILTED["mean"], TILTED["cov"])


def test_ula_has_them_with_its_bias(tilted):
    h, cov = 0.3, tensor(TILTED["cov"])
    biased = cov @ torch.linalg.inv(torch.eye(3) - h / 4 * torch.linalg.inv(cov))
    chain = run(ULA(step_size=h), tilted, start(3), noise("chain"), 60)
    assert_moments(chain.u, TILTED["mean"], biased.tolist())
    with pytest.raises(AssertionError):
        assert_moments(chain.u, TILTED["mean"], TILTED["cov"])


# ---------------------------------------------------------------- the bias of ULA

ULA_CASES = closed_form("ula_gaussian")


@pytest.mark.parametrize("case", ULA_CASES["cases"], ids=lambda case: f"s={case['s']}")
@pytest.mark.parametrize("steps", [10, 40])
def test_ula_after_finitely_many_steps(case, steps):
    target = GaussianTarget(tensor(ULA_CASES["target_mean"]), tensor(ULA_CASES["target_cov"]))
    wanted = case["finite_from_N0I"][str(steps)]
    for sampler in (ULA.from_std(case["s"]), Langevin(step_size=case["s"])):
        chain = run(sampler, target, start(3), noise("chain"), steps)
        assert_moments(chain.u, wanted["mean"], wanted["cov"])


def test_ula_has_its_stationary_moments_bias_included():
    case = ULA_CASES["cases"][0]
    target = GaussianTarget(tensor(ULA_CASES["target_mean"]), tensor(ULA_CASES["target_cov"]))
    chain = run(ULA(step_size=case["h"]), target, start(3), noise("chain"), 250)
    assert_moments(chain.u, case["mean"], case["stationary_cov"])
    with pytest.raises(AssertionError):
        assert_moments(chain.u, case["mean"], ULA_CASES["target_cov"])


def test_ula_is_stable_up_to_the_largest_step_only():
    largest = ULA_CASES["cases"][0]["max_stable_s"]
    target = GaussianTarget(tensor(ULA_CASES["target_mean"]), tensor(ULA_CASES["target_cov"]))
    inside, outside = (
        run(ULA.from_std(factor * largest), target, start(3)[:64], noise("chain"), 400).u.abs().max()
        for factor in (0.98, 1.02)
    )
    assert inside < 1e3 < outside


# ---------------------------------------------------------------- linear-Gaussian hierarchy

H = closed_form("hierarchy_linear_gaussian")
TOP_FIRST = [2, 3, 0, 1]  # the vectors list z1 before z2


def top_first(name):
    value = tensor(H[name])
    return value[:, TOP_FIRST] if value.ndim == 2 else value[TOP_FIRST]


def cov_top_first(name):
    return tensor(H[name])[TOP_FIRST][:, TOP_FIRST].tolist()


@pytest.fixture
def hierarchy():
    return Linear((2, 2), tensor(H["A"]), tensor(H["b"]), lambda top: tensor(H["sigma"]).expand_as(top))


def hierarchy_tilt(latents):
    parts = [
        z @ tensor(H[f"a{i}"]) - 0.5 * (z.square() @ tensor(H[f"B{i}"])) for i, z in zip((2, 1), latents.z, strict=True)
    ]
    return torch.stack(parts, dim=1)


def test_hierarchy_transform_and_inverse(hierarchy):
    u, z = top_first("points_u"), top_first("points_z")
    close(hierarchy.latents(u).flat_z, z, 1e-12)
    close(hierarchy.invert(hierarchy.layout.split(z)).u, u, 1e-12)


def test_hierarchy_log_determinant(hierarchy):
    u = top_first("points_u")
    expected = tensor(H["sigma"]).log().sum().expand(len(u))
    close(hierarchy.latents(u).log_sigma, expected, 1e-12)
    close(tensor(H["log_p_u"]) - tensor(H["log_p_z"]), expected)


def test_hierarchy_density_and_gradient_in_u(hierarchy):
    u = top_first("points_u")
    value, grad = TiltedPrior(hierarchy, Tilt(hierarchy_tilt)).value_and_grad(u)
    close(grad, top_first("grad_log_p_u"))
    log_p = value - H["logZ"] - 2 * torch.log(tensor(2 * torch.pi))
    close(log_p, tensor(H["log_p_u"]))


def test_hierarchy_density_and_gradient_in_z(hierarchy):
    z = top_first("points_z")
    value, grad = LatentSpace(hierarchy, Tilt(hierarchy_tilt)).value_and_grad(z)
    close(grad, top_first("grad_log_p_z"))
    close(value - H["logZ"], tensor(H["log_p_z"]))


def test_hierarchy_prior_draws_have_the_moments_of_z(hierarchy):
    z = hierarchy.latents(start(4)).flat_z
    assert_moments(z, top_first("prior_mean_z").tolist(), cov_top_first("prior_cov_z"))


@pytest.mark.parametrize("space", ["u", "z"])
def test_hierarchy_tilted_moments(hierarchy, space):
    density = {"u": TiltedPrior, "z": LatentSpace}[space](hierarchy, Tilt(hierarchy_tilt))
    point = run(MALA(step_size=0.35), density, start(4), noise("chain"), 60).u
    u = point if space == "u" else hierarchy.invert(hierarchy.layout.split(point)).u
    z = hierarchy.latents(u).flat_z
    assert_moments(u, top_first("tilted_mean_u").tolist(), cov_top_first("tilted_cov_u"))
    assert_moments(z, top_first("tilted_mean_z").tolist(), cov_top_first("tilted_cov_z"))


# ---------------------------------------------------------------- σ that depends on the layer above

J = closed_form("jacobian_state_dependent_sigma")


@pytest.fixture
def scaled():
    return Linear((1, J["n"]), torch.zeros(J["n"], 1).double(), J["k"], lambda top: (J["c"] * top).exp())


def nothing(latents):
    return 0 * latents.flat_z[:, :1]


def test_jacobian_density_of_z(scaled):
    close(scaled.latents(tensor(J["points_u"])).root_log_prob, tensor(J["logp_z_at_points"]))


@pytest.mark.parametrize(("official", "key"), [(False, "grad_exact"), (True, "grad_without_jacobian")])
def test_jacobian_gradients(scaled, official, key):
    density = TiltedPrior(scaled, Tilt(nothing), jacobian=official)
    close(density.value_and_grad(tensor(J["points_u"])).grad, tensor(J[key]))


@pytest.mark.parametrize(("official", "key"), [(False, "u2_mean_exact"), (True, "u2_mean_without_jacobian")])
def test_the_official_target_shifts_the_top_mean(scaled, official, key):
    density = TiltedPrior(scaled, Tilt(nothing), jacobian=official)
    top = run(MALA(step_size=0.5), density, start(1 + J["n"]), noise("chain"), 60).u[:, :1]
    assert_moments(top, [J[key]], [[1.0]])


# ---------------------------------------------------------------- an exponential tilt moves the mean


def test_an_exponential_tilt_moves_the_mean():
    sir = closed_form("sir_exponential_tilt")
    weight = nn.Parameter(tensor([sir["a"]]))
    density = TiltedPrior(Linear((1,)), Tilt(lambda latents: latents.flat_z * weight - weight**2 / 2))
    chain = run(MALA(step_size=0.8), density, start(1), noise("chain"), 40)
    assert_moments(chain.u, [sir["target_mean"]], [[sir["target_var"]]])


# ---------------------------------------------------------------- ELBO of a linear-Gaussian model


class ExactInference(Linear, InferringBackbone):
    """x = z_1 + 0.8 ε on the hierarchy above, with the true posterior as q."""

    pixel_std = 0.8

    def __init__(self):
        super().__init__((2, 2), tensor(H["A"]), tensor(H["b"]), lambda top: tensor(H["sigma"]).expand_as(top))
        w = torch.eye(4, dtype=torch.float64)[2:] + 0.0  # x sees z_1, the last two
        mean, cov = top_first("prior_mean_z"), tensor(cov_top_first("prior_cov_z"))
        noise_cov = self.pixel_std**2 * torch.eye(2, dtype=torch.float64)
        self.marginal = MultivariateNormal(w @ mean, w @ cov @ w.T + noise_cov)
        gain = cov @ w.T @ torch.linalg.inv(self.marginal.covariance_matrix)
        self.q_cov = cov - gain @ w @ cov
        self.q_mean = lambda x: mean + (x - w @ mean) @ gain.T

    def likelihood(self, latents):
        return GaussianPixels(latents.z[-1].reshape(-1, 1, 1, 2), self.pixel_std)

    def infer(self, batch, noise):
        q = MultivariateNormal(self.q_mean(batch.x.flatten(1)), self.q_cov)
        z = q.mean + noise.normal(len(batch.x), 4) @ torch.linalg.cholesky(self.q_cov).T
        latents = self.invert(self.layout.split(z))
        ratio = q.log_prob(z) - latents.root_log_prob
        return Posterior(latents, kl=torch.stack([ratio, 0 * ratio], dim=1))


def test_the_elbo_of_the_true_posterior_is_the_log_likelihood():
    backbone = ExactInference()
    x = noise("x").normal(6, 1, 1, 2)
    loss = backbone.objective(Batch(x, x, None, torch.arange(6)), noise("q"), Progress(0, 1))
    close(-loss.total, backbone.marginal.log_prob(x.flatten(1)).mean(), 1e-9)
    close(loss.terms["elbo"], -loss.total)
