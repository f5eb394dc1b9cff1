"""Class shares: half the sum of differences, of draws that favour a class, of draws that do not."""

import pytest
from tiny_models import EXTRACTORS, ShiftedPrior, numbers, plan_of, tiny_evaluation

from hebm.errors import ConfigError
from hebm.latents import LatentLayout
from hebm_plugins.metrics.labels import ClassShares

LAYOUT = LatentLayout(((3,), (6,)))


class Favours(ShiftedPrior):
    """Of the classes u_0 > 1 and u_0 < 1 it draws the first alone."""

    def __init__(self):
        super().__init__(LAYOUT, 1.0)

    def shifted(self, at, noise, request):
        u = super().shifted(at, noise, request).u
        u[:, 0] = 1 + (u[:, 0] - 1).abs() + 0.5
        return at.moved(u)


def measured(prior):
    return numbers(ClassShares().compute(tiny_evaluation(EXTRACTORS, prior=prior)))


def test_draws_like_the_datas_have_its_shares():
    found = measured(ShiftedPrior(LAYOUT, 1.0))
    assert found["class-shares.prior"] < 0.08
    assert found["class-shares.reconstruction"] < 0.08
    assert {"class-share.data.low", "class-share.data.high"} <= set(found)
    assert found["classifier-accuracy"] > 0.8


def test_a_starved_class_is_found_out():
    found = measured(Favours())
    low, high = found["class-share.prior.low"], found["class-share.prior.high"]
    assert low < 0.1 < 0.4 < found["class-share.data.low"]
    assert found["class-shares.prior"] == pytest.approx(found["class-share.data.low"] - low)
    assert high == pytest.approx(1 - low)


def test_images_without_classes_are_refused_before_training():
    plan = plan_of(tiny_evaluation(EXTRACTORS))
    for split in plan.images.values():
        split.labels = None
    with pytest.raises(ConfigError, match="class labels"):
        ClassShares().check(plan)
