"""What this prior promises beyond the interface: it starts at its root, and it learns."""

import pytest
import torch
from hebm.errors import ConfigError
from hebm.interfaces import Noise, Posterior, Progress
from hebm.registry import find
from hebm.testing import ReferenceBackbone

from hebm_quadratic_tilt.prior import QuadraticTilt


def make():
    backbone = ReferenceBackbone().double()
    return backbone, QuadraticTilt().build(backbone).double()


def test_it_is_found_by_name():
    assert find("hebm_priors", "quadratic-tilt") is QuadraticTilt


def test_without_training_the_tilt_is_0():
    backbone, prior = make()
    latents = backbone.latents(Noise(0, "u", dtype=torch.float64).normal(10, 7))
    assert not prior.tilt(latents).any()


def test_maximum_likelihood_moves_draws_to_the_data():
    backbone, prior = make()
    mean, std = torch.linspace(-1, 1, 7).double(), torch.linspace(0.6, 1.4, 7).double()
    u = mean + std * Noise(0, "data", dtype=torch.float64).normal(2048, 7)
    with torch.no_grad():
        posterior = Posterior(backbone.latents(u).detach())
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
    for step in range(150):
        optimizer.zero_grad()
        prior.objective(
            backbone, posterior, Noise(step, "step", dtype=torch.float64), Progress(step, 150)
        ).total.backward()
        optimizer.step()
    sample = prior.sample(backbone, 4096, Noise(1, "sample", dtype=torch.float64)).u
    assert torch.allclose(sample.mean(0), u.mean(0), atol=0.15)
    assert torch.allclose(sample.std(0), u.std(0), atol=0.15)


def test_only_a_root_can_be_tilted():
    with pytest.raises(ConfigError, match=r"prior\.root"):
        QuadraticTilt(root=QuadraticTilt()).build(ReferenceBackbone())
