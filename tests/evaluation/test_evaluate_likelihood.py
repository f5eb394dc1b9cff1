"""Estimators of log p(x) on linear-Gaussian ladders, whose likelihood is exact."""

import math

import pytest
import torch
from torch import nn

from hebm.evaluation.likelihood import elbo_terms, importance_weighted, weighted
from hebm.interfaces import Batch, Draw, InferringBackbone, PriorLearner
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import GaussianPixels
from hebm.noise import Noise
from hebm.normals import Normal

PIXELS, STD = 4, 0.6
CONTEXT = 2


class Ladder(InferringBackbone):
    """c ~ N(0, I), z_1 = A_1 c + u_1, z_2 = A_2 [z_1, c] + u_2 / 2, x = B z_2 + 0.6 ξ; q and r Gaussian.

    Arguments:
        context: whether there is a c.
        widen: factor of the deviations of q and r.
    """

    def __init__(self, context, widen=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.layout = LatentLayout(((3,), (4,)), (CONTEXT,) if context else None)
        size = CONTEXT if context else 0
        self.maps = nn.ModuleList([nn.Linear(size, 3, bias=False), nn.Linear(3 + size, 4, bias=False)]).double()
        self.requires_grad_(False)
        self.out = nn.Linear(4, PIXELS, bias=False).double().requires_grad_(False)
        self.deviations, self.widen = (1.0, 0.5), widen

    def _priors(self, z, context):
        above = z[0].new_zeros(len(z[0]), 0) if context is None else context
        return (
            Normal(self.maps[0](above), torch.full_like(z[0], self.deviations[0])),
            Normal(self.maps[1](torch.cat([z[0], above], 1)), torch.full_like(z[1], self.deviations[1])),
        )

    def latents(self, u, context=None):
        first, second = self.layout.split(u)
        z_1 = self._priors((first, second), context)[0].at(first)
        z_2 = self._priors((z_1, second), context)[1].at(second)
        return self.invert((z_1, z_2), context)

    def invert(self, z, context=None):
        priors = self._priors(z, context)
        u = [p.standardised(part) for p, part in zip(priors, z, strict=True)]
        return Latents(self.layout.join(u), tuple(z), tuple(p.std for p in priors), context)

    def likelihood(self, latents):
        return GaussianPixels(self.out(latents.z[1]).unflatten(1, (1, 2, 2)), STD)

    def joint(self):
        """Covariance of (c, z_1, z_2, x)."""
        size = self.layout.context[0] if self.layout.context else 0
        total = size + 3 + 4 + PIXELS
        basis = torch.zeros(total, size + 3 + 4 + PIXELS, dtype=torch.float64)
        basis[:size, :size] = torch.eye(size)
        c = basis[:size]
        basis[size : size + 3] = self.maps[0].weight @ c
        basis[size : size + 3, size : size + 3] += torch.eye(3)
        z_1 = basis[size : size + 3]
        basis[size + 3 : size + 7] = self.maps[1].weight @ torch.cat([z_1, c])
        basis[size + 3 : size + 7, size + 3 : size + 7] += 0.5 * torch.eye(4)
        basis[size + 7 :] = self.out.weight @ basis[size + 3 : size + 7]
        basis[size + 7 :, size + 7 :] += STD * torch.eye(PIXELS)
        return (basis @ basis.T).detach()

    def log_p(self, x):
        cov = self.joint()[-PIXELS:, -PIXELS:]
        zero = torch.zeros(PIXELS, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, cov).log_prob(x.flatten(1))

    def infer(self, batch, noise):
        """Independent normals about the exact posterior's means, of its marginal deviations times `widen`."""
        cov = self.joint()
        latent, x = slice(0, len(cov) - PIXELS), slice(len(cov) - PIXELS, None)
        gain = cov[latent, x] @ torch.linalg.inv(cov[x, x])
        std = (cov[latent, latent] - gain @ cov[x, latent]).diagonal().sqrt() * self.widen
        q = Normal(batch.x.flatten(1) @ gain.T, std.expand(len(batch.x), -1))
        draw = q.at(noise.normal(*q.mean.shape))
        sizes = [len(cov) - PIXELS - 7, 3, 4]
        c, *z = draw.split(sizes, 1)
        parts = [Normal(*pair) for pair in zip(q.mean.split(sizes, 1), q.std.split(sizes, 1), strict=True)]
        context = c if self.layout.context else None
        latents = self.invert(tuple(z), context)
        log_q = torch.stack([p.log_prob(part) for p, part in zip(parts[1:], z, strict=True)], 1)
        priors = self._priors(z, context)
        log_p = torch.stack([p.log_prob(part) for p, part in zip(priors, z, strict=True)], 1)
        return Posterior(latents, log_q, log_q - log_p, parts[0].log_prob(c) if self.layout.context else None)


class NoisyRoot(PriorLearner):
    """c ~ N(0, I), whose log density is known up to noise: the bound has mean log p(c) − 1, the weight mean p(c)."""

    def __init__(self, spread=0.7):
        super().__init__()
        self.root, self.spread = None, spread

    context = (CONTEXT,)

    def sample(self, backbone, n, noise, request=None):
        return Draw(noise.normal(n, backbone.layout.dim))

    def _exact(self, c):
        return Normal(torch.zeros_like(c), torch.ones_like(c)).log_prob(c)

    def context_bound(self, context, noise):
        return self._exact(context) - 1 + self.spread * noise.normal(len(context))

    def context_weight(self, context, noise):
        return self._exact(context) - 0.5 * self.spread**2 + self.spread * noise.normal(len(context))


def images(backbone, n=64):
    x = (
        Noise(0, "x", dtype=torch.float64).normal(n, PIXELS)
        @ torch.linalg.cholesky(backbone.joint()[-PIXELS:, -PIXELS:]).T
    )
    x = x.unflatten(1, (1, 2, 2))
    return Batch(x, x, None, torch.arange(n))


NOISE = Noise(0, "likelihood", dtype=torch.float64)


@pytest.mark.parametrize("context", [False, True])
def test_proper_importance_weights_come_to_the_exact_likelihood_of_a_ladder(context):
    backbone = Ladder(context, widen=1.2)
    batch = images(backbone)
    exact = backbone.log_p(batch.x)
    few, many = (importance_weighted(backbone, NoisyRoot(), backbone.infer, batch, NOISE, k) for k in (5, 3000))
    assert (few.bound - exact).mean() < -0.05
    assert abs(float((many.bound - exact).mean())) < 0.02
    assert (many.bound - exact).abs().max() < 0.2


def test_the_elbo_lies_below_by_the_kl_of_the_inference_model_and_the_slack_of_the_root():
    backbone = Ladder(True)
    batch = images(backbone)
    exact = backbone.log_p(batch.x)
    gap = exact - elbo_terms(backbone, NoisyRoot().context_bound, backbone.infer, batch, NOISE, 2000).elbo
    cov = torch.linalg.inv(backbone.joint())[:-PIXELS, :-PIXELS]
    std = torch.linalg.inv(cov).diagonal().sqrt()
    divergence = 0.5 * ((std.square() * cov.diagonal()).sum() - len(std) - torch.logdet(cov)) - std.log().sum()
    assert float(gap.mean()) == pytest.approx(float(divergence) + 1, abs=0.02)


def test_a_noisy_bound_or_an_analytic_kl_in_the_exponent_would_exceed_the_likelihood():
    backbone, root = Ladder(True, widen=1.2), NoisyRoot(spread=2.0)
    batch = images(backbone)

    def log_weight(k):
        posterior = backbone.infer(batch, NOISE.derive(k))
        log_p_x = backbone.likelihood(posterior.latents).log_prob(batch.target)
        log_ratio = posterior.latents.root_log_prob - posterior.log_q.sum(1)
        return (
            log_p_x + log_ratio + root.context_bound(posterior.latents.context, NOISE.derive(k, "b")) - posterior.log_r
        )

    wrong = weighted(torch.stack([log_weight(k) for k in range(2000)])).bound
    assert float((wrong - backbone.log_p(batch.x)).mean()) > 0.5


def test_the_share_of_equal_weights_is_1_and_of_one_that_decides_1_over_k():
    equal, single = torch.zeros(5, 1), torch.tensor([[0.0], [-90.0], [-90.0], [-90.0]])
    assert float(weighted(equal).share) == pytest.approx(1)
    assert float(weighted(single).share) == pytest.approx(0.25)
    assert float(weighted(single).bound) == pytest.approx(-math.log(4))


def test_a_posterior_without_kl_or_log_q_has_no_bound():
    backbone = Ladder(False)
    batch = images(backbone, 3)

    def chain(batch, noise):
        return Posterior(backbone.infer(batch, noise).latents)

    assert elbo_terms(backbone, NoisyRoot().context_bound, chain, batch, NOISE) is None
    assert importance_weighted(backbone, NoisyRoot(), chain, batch, NOISE, 3) is None
