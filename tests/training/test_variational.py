"""The variational scheme: the inference model feels the tilt, the energy only its own objective."""

import attrs
import pytest
import torch

from hebm.errors import ConfigError
from hebm.interfaces import Progress
from hebm.latents import Posterior

PROGRESS = Progress(0, 10)


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_the_gradients_are_those_of_the_elbo_with_the_tilted_prior(assembled):
    assembly, batch, noise = assembled("variational")
    backbone, prior = assembly.model.backbone, assembly.model.prior
    assembly.phases[0](batch, noise, PROGRESS).total.backward()
    found = gradients(backbone), gradients(prior)
    assembly.model.zero_grad()

    loss = backbone.objective(batch, noise.derive("backbone"), PROGRESS)
    positive = Posterior(loss.posterior.latents.detach())
    energy = prior.objective(backbone, positive, noise.derive("prior"), PROGRESS)
    energy.total.backward()
    own = gradients(prior)
    tilt = prior.tilt(loss.posterior.latents).sum(1).mean()
    log_z = backbone.invert(energy.negative.z).root_log_prob.mean()
    (loss.total - tilt + log_z).backward()
    for name, gradient in gradients(backbone).items():
        torch.testing.assert_close(found[0][name], gradient, atol=1e-4, rtol=1e-4)
    for name, gradient in own.items():
        torch.testing.assert_close(found[1][name], gradient)


def test_an_objective_without_posterior_is_refused_rather_than_trained_without_the_prior(assembled, monkeypatch):
    assembly, batch, noise = assembled("variational")
    backbone = type(assembly.model.backbone)
    objective = backbone.objective
    monkeypatch.setattr(backbone, "objective", lambda *a: attrs.evolve(objective(*a), posterior=None))
    with pytest.raises(ConfigError, match="needs the posterior draw"):
        assembly.phases[0](batch, noise, PROGRESS)


def test_with_a_gaussian_prior_it_is_the_elbo(assembled):
    assembly, batch, noise = assembled("variational", "gaussian")
    loss = assembly.phases[0](batch, noise, PROGRESS).total
    assert torch.equal(loss, assembly.model.backbone.objective(batch, noise.derive("backbone"), PROGRESS).total)
