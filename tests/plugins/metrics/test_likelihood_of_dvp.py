"""Likelihoods under a root whose learned model and whose chain differ."""

import pytest
from tiny_models import TinyData, tiny_evaluation

from hebm.evaluation.metrics_file import Results
from hebm.interfaces import ImageSpec
from hebm.testing.subjects import perturbed, seeded
from hebm_plugins.dvp.recipe import DVP
from hebm_plugins.metrics.likelihood import Likelihood
from hebm_plugins.priors.dvp.recipe import DVPDiffusion


def measured(tmp_path, time):
    backbone = seeded(lambda: DVP(latents=(1,), channels=8, encoder_blocks=1, context_size=3).build(ImageSpec(1, 8, 8)))
    recipe = DVPDiffusion(steps=3, blocks=1, time=time)
    prior = perturbed(seeded(lambda: recipe.build(backbone)), 0.05)
    made = tiny_evaluation(tmp_path, prior=prior, data=TinyData(), backbone=backbone)
    return Results(tuple(Likelihood(k=4, images=100, draws=20).compute(made)))


def test_in_continuous_time_the_chains_bound_is_measured_too_and_is_lower(tmp_path):
    found = measured(tmp_path, "continuous")
    chain = found.get("elbo-chain")
    assert chain.value < found.get("elbo").value - 10  # three steps are far from continuous time
    assert -chain.value > found.get("nll-iw").value
    assert chain.conditions["estimator"] == "elbo of the chain"
    assert chain.conditions["n"] == 100
    assert found.get("elbo.kl-context").value > 0


def test_in_discrete_time_both_are_one(tmp_path):
    found = measured(tmp_path, "discrete")
    assert found.get("elbo-chain").value == pytest.approx(found.get("elbo").value, rel=0.05)
