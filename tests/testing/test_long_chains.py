"""Tilts are scaled until they show in draws, and chains take steps that suit their densities."""

import attrs
import pytest
import torch
from torch import nn

from hebm.gaussian import GaussianPrior
from hebm.interfaces import MCMC, EnergyFn, PriorLearner, PriorRecipe
from hebm.testing import ReferenceBackbone
from hebm.testing.long_chains import LIVELY, PACE, Paced, _size, _slopes, lively, paced, start, step_size, width
from hebm.testing.subjects import GaussianTarget, seeded
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.ula import ULA


class Net(EnergyFn):
    def __init__(self, dim, size, normalised):
        super().__init__()
        self.net, self.size, self.normalised = nn.Linear(dim, 1), size, normalised

    def forward(self, latents, t=None):
        weight = self.net.weight / self.net.weight.norm() if self.normalised else self.net.weight
        return self.size * (latents.u @ weight.T).unsqueeze(1)


class Tilted(PriorLearner):
    def __init__(self, backbone, size, normalised):
        super().__init__()
        self.root, self.energy = GaussianPrior(backbone.layout), Net(backbone.layout.dim, size, normalised)

    def tilt(self, latents):
        return self.energy(latents).squeeze(2)

    def transitions(self, backbone):
        target = lambda at, request: self.density(backbone, at.context)  # noqa: E731
        return (MCMC(name="prior", sampler=ULA(), density=target),)


@attrs.frozen
class Recipe(PriorRecipe):
    size: float
    normalised: bool = False

    def build(self, backbone):
        return Tilted(backbone, self.size, self.normalised)


@pytest.mark.parametrize("size", [0.3, 1.0, 300.0])
def test_faint_and_steep_tilts_get_the_same_slope(size):
    prior, backbone = lively(Recipe(size), seeded(ReferenceBackbone))
    assert _size(prior, backbone, _slopes(prior, backbone)) == pytest.approx(LIVELY, rel=0.1)


def test_a_tilt_that_no_factor_makes_flat_is_not_tested():
    assert lively(Recipe(100.0, normalised=True), seeded(ReferenceBackbone)) is None


@pytest.mark.parametrize("sampler", [ULA(step_size=0.3), MALA(step_size=0.3)])
def test_a_sampler_tells_its_step_size(sampler):
    assert step_size(sampler) == pytest.approx(0.3)


def test_a_density_without_a_factor_has_the_width_of_its_narrowest_direction():
    cov = torch.diag(torch.tensor([0.01, 0.01, 0.01], dtype=torch.float64))
    u = torch.zeros(8, 3, dtype=torch.float64)
    assert width(GaussianTarget(u[0], cov), u) == pytest.approx(0.1, rel=1e-3)


def test_paced_steps_are_a_share_of_the_variance():
    backbone = seeded(ReferenceBackbone).double()
    prior = Recipe(1.0).build(backbone).double()
    at = start(backbone, 4)
    (chain,) = map(paced, prior.transitions(backbone))
    density = chain.density(at, None)
    assert isinstance(density, Paced)
    assert density.scale * ULA().step_size == pytest.approx(PACE)
    plain = prior.density(backbone)
    assert torch.equal(density.value_and_grad(at.u).grad, plain.value_and_grad(at.u).grad)
