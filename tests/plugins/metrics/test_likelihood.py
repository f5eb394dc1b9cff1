from __future__ import annotations

import math

import attrs
import pytest
import torch
from tiny_models import LinearGenerator, RootPrior, TinyData, plan_of, tiny_evaluation
from torch import nn

from hebm.errors import ConfigError
from hebm.evaluation.metrics_file import Results
from hebm.evaluation.partition import Annealing
from hebm.gaussian import GaussianPrior
from hebm.interfaces import EnergyFn, InferringBackbone, Request
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.likelihoods import BernoulliPixels, GaussianPixels
from hebm_plugins.metrics.likelihood import Likelihood
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.joint import JointPrior
from hebm_plugins.samplers.ula import ULA

STD = 0.5


class FactorBackbone(InferringBackbone):
    """x_d = u_d + 0.5 ξ_d for every pixel: q may be the exact posterior N(0.8 x, 0.2), or wider."""

    def __init__(self, widen=1.0, bernoulli=False):
        super().__init__()
        self.layout, self.widen, self.bernoulli = LatentLayout(((64,),)), widen, bernoulli
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def latents(self, u, context=None):
        return Latents(u, (u,), (torch.ones_like(u),))

    def invert(self, z, context=None):
        return self.latents(z[0])

    def likelihood(self, latents):
        mean = latents.u.unflatten(1, (1, 8, 8))
        return BernoulliPixels(mean) if self.bernoulli else GaussianPixels(mean, STD)

    def infer(self, batch, noise):
        mean, std = 0.8 * batch.x.flatten(1), math.sqrt(0.2) * self.widen
        xi = noise.normal(*mean.shape)
        log_q = (-0.5 * xi.square() - math.log(std) - 0.5 * math.log(2 * math.pi)).sum(1, keepdim=True)
        kl = 0.5 * (mean.square() + std**2 - 1 - 2 * math.log(std)).sum(1, keepdim=True)
        return Posterior(self.latents(mean + std * xi), log_q, kl)


def measured(tmp_path, backbone, metric, **data):
    prior = RootPrior(backbone.layout)
    evaluation = tiny_evaluation(tmp_path, prior=prior, data=TinyData(**data), backbone=backbone)
    return Results(tuple(metric.compute(evaluation))), evaluation


def exact(evaluation):
    x = evaluation.splits["test"].read(torch.arange(400)).double().flatten(1)
    return torch.distributions.Normal(0.0, math.sqrt(1 + STD**2)).log_prob(x).sum(1).mean().item()


def test_importance_weights_with_the_exact_posterior_give_the_exact_likelihood(tmp_path):
    found, evaluation = measured(tmp_path, FactorBackbone(), Likelihood(k=2))
    weighted = found.get("nll-iw")
    assert weighted.value == pytest.approx(-exact(evaluation), rel=1e-6)
    assert (weighted.conditions["estimator"], weighted.conditions["k"]) == ("importance-weighted", 2)
    assert found.get("nll-iw.ess").value == pytest.approx(1)


def test_elbo_with_the_exact_posterior_is_the_likelihood_within_noise(tmp_path):
    found, evaluation = measured(tmp_path, FactorBackbone(), Likelihood())
    spread = math.sqrt(64 / 2) * 0.2 / STD**2 / math.sqrt(400)  # of log p(x|z) over draws of z
    elbo = found.get("elbo")
    assert abs(elbo.value - exact(evaluation)) < 5 * spread + 0.1
    conditions = {"n": 400, "draws": 1, "split": "test", "estimator": "elbo", "prior": "the backbone's own"}
    assert conditions.items() <= elbo.conditions.items()
    assert found.get("nll-iw") is None
    parts = found.get("elbo.reconstruction").value + found.get("elbo.kl", part="layer 1").value
    assert elbo.value == pytest.approx(-parts)


def test_a_worse_posterior_gives_a_lower_bound_and_more_draws_a_higher(tmp_path):
    one, evaluation = measured(tmp_path, FactorBackbone(widen=1.5), Likelihood())
    many, _ = measured(tmp_path, FactorBackbone(widen=1.5), Likelihood(k=20))
    assert one.get("elbo").value < -many.get("nll-iw").value < exact(evaluation)
    assert 1 / 20 < many.get("nll-iw.ess").value < 0.9


def test_more_draws_average_the_noise_of_the_elbo(tmp_path):
    found, evaluation = measured(tmp_path, FactorBackbone(), Likelihood(draws=50))
    assert found.get("elbo").value == pytest.approx(exact(evaluation), abs=0.1)


def test_the_published_estimator_is_too_low_and_says_so(tmp_path):
    found, _ = measured(tmp_path, FactorBackbone(), Likelihood(k=100, published=True, images=50))
    assert found.get("nll-published").value < found.get("nll-iw").value - 1
    assert "too low" in found.get("nll-published").note


def test_the_published_estimator_takes_more_than_one_draw():
    with pytest.raises(ConfigError, match="k > 1"):
        Likelihood(published=True)


@pytest.mark.parametrize(
    ("bernoulli", "binarize", "scale"),
    [(False, "off", "continuous"), (True, "off", "not a likelihood"), (True, "both", "binary pixels")],
)
def test_the_scale_of_the_number_is_stated(tmp_path, bernoulli, binarize, scale):
    found, _ = measured(tmp_path, FactorBackbone(bernoulli=bernoulli), Likelihood(images=100), binarize=binarize)
    conditions = found.get("elbo").conditions
    assert scale in conditions["scale"]
    assert conditions["n"] == 100


class Levels(GaussianPixels):
    """A family with a scale of its own, as an attribute of the object."""

    @property
    def scale(self):
        return "probability of 5-bit images"


class Plain(torch.distributions.Independent):
    """Of torch's kind, with no scale in words."""

    scale = torch.ones(1)


@pytest.mark.parametrize(
    ("make", "family", "scale"),
    [
        (lambda mean: Levels(mean, STD), "Levels", "probability of 5-bit images"),
        (
            lambda mean: Plain(torch.distributions.Normal(mean, STD), 3),
            "Plain",
            "as the backbone's likelihood defines it",
        ),
    ],
)
def test_the_scale_of_a_third_party_distribution_is_its_own_or_a_default(tmp_path, make, family, scale):
    class Other(FactorBackbone):
        def likelihood(self, latents):
            return make(latents.u.unflatten(1, (1, 8, 8)))

    found, _ = measured(tmp_path, Other(), Likelihood(images=100))
    conditions = found.get("elbo").conditions
    assert (conditions["family"], conditions["scale"], conditions["targets"]) == (family, scale, "as read")


def test_a_posterior_drawn_by_mcmc_has_no_bound(tmp_path):
    class Chain(FactorBackbone):
        def infer(self, batch, noise):
            return Posterior(super().infer(batch, noise).latents)

    found, _ = measured(tmp_path, Chain(), Likelihood())
    assert not found.get("elbo").found


def test_without_a_density_of_q_the_importance_weighted_bound_is_missing_and_says_why(tmp_path):
    class NoDensity(FactorBackbone):
        def infer(self, batch, noise):
            return attrs.evolve(super().infer(batch, noise), log_q=None)

    found, _ = measured(tmp_path, NoDensity(), Likelihood(k=2, images=100))
    assert found.get("elbo").found
    assert not found.get("nll-iw").found
    assert "log q" in found.get("nll-iw").note


def test_bits_per_dimension_are_of_discrete_pixels_alone(tmp_path):
    found, _ = measured(tmp_path, FactorBackbone(bernoulli=True), Likelihood(k=2), binarize="target")
    for name, sign in (("elbo", -1), ("nll-iw", 1)):
        bound, bits = found.get(name), found.get(f"{name}.bits")
        assert bound.unit == "nats per image"
        assert (bits.value, bits.unit) == (pytest.approx(sign * bound.value / (64 * math.log(2))), "bits per dimension")
        assert 0 < bits.error == pytest.approx(bound.error / (64 * math.log(2)))
    for backbone in (FactorBackbone(), FactorBackbone(bernoulli=True)):  # a density, and grey pixels
        found, _ = measured(tmp_path, backbone, Likelihood(k=2))
        assert found.get("elbo").found
        assert not [item.name for item in found.measurements if "bits" in item.name + item.unit]


def test_before_training_it_says_why_there_are_no_bits_and_refuses_to_give_them(tmp_path):
    plan = plan_of(tiny_evaluation(tmp_path, backbone=FactorBackbone()))
    (note,) = Likelihood().check(plan)
    assert note.startswith("likelihood is in nats per image alone: GaussianPixels is not a probability of discrete")
    with pytest.raises(ConfigError, match=r"likelihood\.bits: .*GaussianPixels.* Leave bits out, or choose"):
        Likelihood(bits=True).check(plan)
    grey = attrs.evolve(plan, backbone=FactorBackbone(bernoulli=True))
    with pytest.raises(ConfigError, match=r"cross-entropy, which is not a likelihood; set data\.binarize"):
        Likelihood(bits=True).check(grey)
    binary = attrs.evolve(grey, spec=attrs.evolve(grey.spec, binary=True))
    assert Likelihood(bits=True).check(binary) == []
    (note,) = Likelihood().check(attrs.evolve(plan, backbone=LinearGenerator()))
    assert note == "likelihood will be undefined: the backbone has no inference model q(z|x)"


def test_a_nonfinite_bound_is_undefined_and_counted(tmp_path):
    class Broken(FactorBackbone):
        def infer(self, batch, noise):
            posterior = super().infer(batch, noise)
            posterior.kl[batch.index == 7] = float("nan")
            return posterior

    found, _ = measured(tmp_path, Broken(), Likelihood())
    assert not found.get("elbo").found
    assert found.get("elbo").note == "the bound of 1 of 400 test images is not finite"


def test_a_backbone_without_inference_has_no_bound(tmp_path):
    found, _ = measured(tmp_path, LinearGenerator(), Likelihood())
    assert not found.get("elbo").found
    assert "inference" in found.get("elbo").note


# ---------------------------------------------------------------- a learned prior

SLOPE = 0.2
FEW = Annealing(particles=128, repeats=3)


class Linear(EnergyFn):
    """f = 0.2 Σ_d u_d, which makes the prior N(0.2, I): log Z = 64 · 0.2² / 2."""

    def forward(self, latents, t=None):
        return SLOPE * latents.u.sum(1)[:, None, None]


def learned(tmp_path, metric, prior=None, request=None, bernoulli=False):
    backbone, data = FactorBackbone(bernoulli=bernoulli), TinyData(binarize="target" if bernoulli else "off")
    prior = prior or JointPrior(GaussianPrior(backbone.layout), Linear(), ULA(steps=1))
    evaluation = tiny_evaluation(tmp_path, prior=prior, data=data, backbone=backbone, request=request)
    return Results(tuple(metric.compute(evaluation))), evaluation


def test_a_learned_prior_has_a_bound_with_its_tilt_and_log_z(tmp_path):
    found, evaluation = learned(tmp_path, Likelihood(annealing=FEW))
    elbo, bound, gain, log_z = (found.get(name) for name in ("elbo", "elbo-learned", "elbo-gain", "log-z"))
    assert abs(log_z.value - 64 * SLOPE**2 / 2) < 5 * log_z.error + 0.01
    x = evaluation.splits["test"].read(torch.arange(400)).double().flatten(1)
    expected = SLOPE * 0.8 * x.sum(1).mean().item() - 64 * SLOPE**2 / 2
    assert abs(gain.value - expected) < 5 * gain.error
    assert bound.value == pytest.approx(elbo.value + gain.value)
    assert bound.error > log_z.error
    assert found.get("elbo-learned.bits") is None
    found, _ = learned(tmp_path, Likelihood(annealing=FEW), bernoulli=True)
    bound, bits = found.get("elbo-learned"), found.get("elbo-learned.bits")
    assert (bits.value, bits.error) == pytest.approx(
        (-bound.value / (64 * math.log(2)), bound.error / (64 * math.log(2)))
    )


def test_the_bound_of_a_learned_prior_says_that_it_is_too_high_and_under_which_prior_it_is(tmp_path):
    found, _ = learned(tmp_path, Likelihood(annealing=FEW, images=64))
    bound = found.get("elbo-learned")
    assert "too low on average" in bound.note
    assert "the bound is too high on average" in bound.note
    assert (bound.conditions["prior"], found.get("elbo").conditions["prior"]) == (
        "the learned prior",
        "the backbone's own",
    )
    assert "128 particles" in bound.conditions["log Z"]


class KnownJoint(JointPrior):
    """The prior N(0.2, I), which knows its log Z."""

    log_z = 64 * SLOPE**2 / 2


def test_a_learned_prior_of_known_log_z_has_a_bound_without_an_estimate(tmp_path):
    made = KnownJoint(GaussianPrior(FactorBackbone().layout), Linear(), ULA(steps=1))
    found, _ = learned(tmp_path, Likelihood(images=64), made)
    elbo, bound, gain, log_z = (found.get(name) for name in ("elbo", "elbo-learned", "elbo-gain", "log-z"))
    assert (log_z.value, log_z.error) == (KnownJoint.log_z, 0)
    assert bound.value == pytest.approx(elbo.value + gain.value)
    assert bound.conditions["log Z"] == "known"
    assert "too high" not in bound.note + gain.note
    assert found.get("log-z.ess") is None
    estimated, _ = learned(tmp_path, Likelihood(annealing=FEW, images=64))
    assert abs(estimated.get("elbo-learned").value - bound.value) < 5 * estimated.get("log-z").error


def test_the_bound_of_the_root_does_not_depend_on_that_of_the_learned_prior(tmp_path):
    (both, _), (alone, _) = (learned(tmp_path, Likelihood(annealing=FEW, learned=flag)) for flag in (True, False))
    assert both.get("elbo") == alone.get("elbo")
    assert alone.get("elbo-learned") is None


def test_a_root_has_no_learned_bound(tmp_path):
    found, _ = measured(tmp_path, FactorBackbone(), Likelihood(images=64))
    assert found.get("elbo-learned") is None


@pytest.mark.parametrize(
    ("prior", "request_", "reason"),
    [(Diffusion(), None, "chain of conditionals"), (None, Request(after="prior"), "evaluate.after")],
)
def test_a_learned_bound_that_cannot_be_measured_says_why(tmp_path, prior, request_, reason):
    made = None if prior is None else prior.build(FactorBackbone())
    found, _ = learned(tmp_path, Likelihood(images=64), made, request_)
    assert found.get("elbo").found
    assert not found.get("elbo-learned").found
    assert reason in found.get("elbo-learned").note
