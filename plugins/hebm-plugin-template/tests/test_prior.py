"""What this prior promises beyond the interface: it is the Gaussian that its formula says, and it learns."""

import pytest
import torch
from hebm.errors import ConfigError
from hebm.interfaces import Progress
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.registry import find
from hebm.testing import ReferenceBackbone

from hebm_quadratic_tilt.prior import QuadraticTilt


def make():
    backbone = ReferenceBackbone().double()
    return backbone, QuadraticTilt().build(backbone).double()


def test_it_is_found_by_name():
    assert find("hebm_priors", "quadratic-tilt") is QuadraticTilt


def test_it_starts_as_the_backbones_own_prior():
    backbone, prior = make()
    noise = Noise(0, "u", dtype=torch.float64)
    u = prior.sample(backbone, 10, noise).u
    assert torch.allclose(prior.tilt(backbone.latents(u)), torch.zeros(10, 2).double(), atol=1e-6)
    assert torch.allclose(u, prior.base.sample(backbone, 10, noise.derive("base")).u, atol=1e-6)


def test_maximum_likelihood_finds_mean_and_variance():
    backbone, prior = make()
    mean, std = torch.linspace(-1, 1, 7).double(), torch.linspace(0.3, 2, 7).double()
    u = mean + std * Noise(0, "data", dtype=torch.float64).normal(4096, 7)
    with torch.no_grad():
        positive = Posterior(backbone.latents(u).detach())
    optimizer = torch.optim.LBFGS(prior.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        total = prior.objective(backbone, positive, Noise(0, "objective"), Progress(0, 1)).total
        total.backward()
        return total

    optimizer.step(loss)
    learned_mean, precision = prior.quadratic()
    assert torch.allclose(learned_mean, u.mean(0), atol=1e-2)
    assert torch.allclose(precision.rsqrt(), u.std(0), atol=1e-2)
    sample = prior.sample(backbone, 4096, Noise(1, "sample", dtype=torch.float64)).u
    assert torch.allclose(sample.mean(0), u.mean(0), atol=0.15)
    assert torch.allclose(sample.std(0), u.std(0), atol=0.15)


def test_only_a_root_can_be_tilted():
    with pytest.raises(ConfigError, match=r"prior\.base"):
        QuadraticTilt(base=QuadraticTilt()).build(ReferenceBackbone())
