"""Label agreement: near 1 for a prior that uses labels, near chance for one that only claims to."""

import pytest
from tiny_models import EXTRACTORS, ShiftedPrior, numbers, plan_of, tiny_evaluation

from hebm.errors import ConfigError
from hebm.latents import LatentLayout
from hebm_plugins.metrics.labels import LabelAgreement

LAYOUT = LatentLayout(((3,), (6,)))


class Asked(ShiftedPrior):
    """Class 1 has u_0 > 1, class 0 u_0 < 1, as in the data; or it ignores labels."""

    labelled = True

    def __init__(self, uses_labels):
        super().__init__(LAYOUT, 1.0)
        self.uses_labels = uses_labels

    def check(self, images):
        pass

    def shifted(self, at, noise, request):
        u = super().shifted(at, noise, request).u
        if self.uses_labels:
            u[:, 0] = 1 + (u[:, 0] - 1).abs() * (2 * request.labels - 1)
        return at.moved(u)


def agreement(prior, samples=200):
    return LabelAgreement(samples=samples).compute(tiny_evaluation(EXTRACTORS, prior=prior))


def test_a_prior_that_uses_labels_agrees_as_often_as_the_classifier_is_right():
    measurements = agreement(Asked(uses_labels=True), 2000)
    found = numbers(measurements)
    every = found["label-agreement.prior"]
    assert every > 0.8
    assert every > found["classifier-accuracy"] - 0.12
    by_class = [found[f"label-agreement-by-class.prior.{name}"] for name in ("low", "high")]
    assert every == pytest.approx(sum(by_class) / 2)
    assert measurements[0].conditions["n"] == 2000


def test_a_prior_that_does_not_agrees_by_chance():
    assert 0.35 < numbers(agreement(Asked(uses_labels=False)))["label-agreement.prior"] < 0.65


def test_a_prior_without_labels_has_none():
    (found,) = agreement(ShiftedPrior(LAYOUT, 1.0))
    assert not found.found
    assert "labels" in found.note


def test_images_without_classes_are_refused_before_training():
    plan = plan_of(tiny_evaluation(EXTRACTORS))
    for split in plan.images.values():
        split.labels = None
    with pytest.raises(ConfigError, match="class labels"):
        LabelAgreement().check(plan)
