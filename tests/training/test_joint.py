"""The joint scheme's gradients are those of the maximum-likelihood formula."""

import pytest
import torch

from hebm.errors import ConfigError
from hebm.interfaces import Batch, Progress, tilt_of
from hebm.training.joint import JointMCMC, generator_loss, log_normaliser, posterior_chain

PROGRESS = Progress(0, 10)


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_the_generator_gets_the_gradient_of_the_complete_likelihood_at_fixed_z(assembled):
    assembly, batch, _ = assembled("joint")
    backbone = assembly.model.backbone
    torch.manual_seed(0)
    with torch.no_grad():
        positive, negative = (backbone.latents(torch.randn(128, 8)).detach() for _ in range(2))
    generator_loss(backbone, batch.target, positive, negative).total.backward()
    found = gradients(backbone)
    backbone.zero_grad()
    expected = -backbone.likelihood(backbone.invert(positive.z)).log_prob(batch.target).mean()
    for sign, draw in ((-1, positive), (1, negative)):
        prior = backbone.conditionals[0](draw.z[0])
        expected = expected + sign * prior.log_prob(draw.z[1]).mean()
    expected.backward()
    assert set(found) == set(gradients(backbone))
    for name, gradient in gradients(backbone).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-4)


def test_the_inference_model_is_not_trained(assembled):
    phase = assembled("joint")[0].phases[0]
    assert not any(name.startswith("inference") for name in phase.groups["backbone"].parameters())


def test_without_a_negative_phase_there_is_no_normaliser(assembled):
    assert log_normaliser(assembled("joint")[0].model.backbone, None) == 0.0
    losses = {}
    for way in ("mle", "posterior"):
        assembly, batch, noise = assembled("joint", train={"beta_grad": way})
        losses[way] = assembly.phases[0](batch, noise, PROGRESS)
    assert losses["mle"].terms["log_p_beta"] != losses["posterior"].terms["log_p_beta"]
    assert losses["mle"].terms["f_negative"] == losses["posterior"].terms["f_negative"]


def test_the_posterior_chain_raises_the_likelihood_and_depends_on_no_other_row(assembled):
    assembly, batch, noise = assembled("joint")
    model, sampler = assembly.model, JointMCMC().posterior_sampler
    u = posterior_chain(model.backbone, tilt_of(model.prior), sampler, batch.target, noise).u
    start = noise.derive("start").normal(128, 8)
    score = [model.backbone.likelihood(model.backbone.latents(v)).log_prob(batch.target).mean() for v in (start, u)]
    assert score[1] > score[0]
    half = Batch(batch.x[64:], batch.target[64:], None, batch.index[64:])
    v = posterior_chain(model.backbone, tilt_of(model.prior), sampler, half.target, noise.at(64)).u
    torch.testing.assert_close(v, u[64:], atol=1e-4, rtol=1e-4)


def test_a_prior_without_density_is_refused(assembled, monkeypatch):
    assembly, *_ = assembled("joint")
    monkeypatch.setattr(type(assembly.model.prior), "density", lambda self, backbone: None)
    with pytest.raises(ConfigError, match="needs a prior with an unnormalised density"):
        assembly.experiment.train.phases(assembly.model.backbone, assembly.model.prior)
