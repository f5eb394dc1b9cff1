"""The two-sample test: 0.5 where there is nothing to tell apart, the known value where there is."""

import math

import pytest
import torch
from tiny_models import LinearBackbone, RootPrior, ShiftedPrior, TinyData, numbers, plan_of, tiny_evaluation

from hebm.errors import ConfigError, NonFiniteError
from hebm.latents import LatentLayout, Posterior
from hebm.noise import Noise
from hebm_plugins.metrics.two_sample import TwoSample
from hebm_plugins.metrics.two_sample_classifier import divide, new_net, tell_apart

LAYOUT = LatentLayout(((3,), (6,)))
DATA = TinyData(rows=1200)


class ShiftedPosterior(LinearBackbone):
    """Infers u ~ N(1, I), whatever the image: draws of `ShiftedPrior(1)` have the same law."""

    def infer(self, batch, noise):
        return Posterior(self.latents(1 + noise.normal(len(batch.x), 9)))


def measured(tmp_path, shift=1.0, space="latents", samples=200, epochs=20, **settings):
    prior, backbone = ShiftedPrior(LAYOUT, shift), ShiftedPosterior()
    return TwoSample(space=space, epochs=epochs).compute(
        tiny_evaluation(tmp_path, prior, DATA, samples=samples, backbone=backbone, **settings)
    )


def of(found, name, kind):
    return next(each for each in found if (each.name, each.kind) == (f"two-sample-{name}", kind))


@pytest.mark.parametrize("space", ["images", "latents"])
def test_draws_from_the_posteriors_own_law_cannot_be_told_apart_and_others_can(tmp_path, space):
    found = measured(tmp_path, space=space, samples=300, epochs=6)
    equal, nats = of(found, "auroc", "prior"), of(found, "nats", "prior")
    assert abs(equal.value - 0.5) < 3 * equal.error
    assert nats.value < 3 * nats.error
    assert of(found, "auroc", "gaussian").value > 0.8
    assert of(found, "nats", "gaussian").value > 0.5


def test_the_auroc_and_nats_of_two_gaussians_are_nearly_the_analytic_ones(tmp_path):
    found = measured(tmp_path, shift=0.6, samples=1200)  # u has mean 1 in nine coordinates: a distance of 1.2 and of 3
    for kind, distance in (("prior", 1.2), ("gaussian", 3.0)):
        area, nats = of(found, "auroc", kind), of(found, "nats", kind)
        best = 0.5 * (1 + math.erf(distance / 2))  # Φ(distance / √2)
        assert best - 0.03 - 3 * area.error < area.value < best + 3 * area.error
        assert nats.value < distance**2 / 2 + 3 * nats.error
    assert of(found, "nats", "prior").value > 0.4  # of 0.72
    assert area.error < 0.02


def test_a_measurement_says_how_many_pairs_were_held_out_and_in_which_space(tmp_path):
    found = measured(tmp_path, epochs=1)
    assert {each.part for each in found} == {"latents"}
    assert found[0].conditions == {"pairs": 50, "space": "latents"}
    assert {each.better for each in found} == {"lower"}


def test_fewer_images_than_samples_are_told_from_as_many_draws(tmp_path):
    found = TwoSample(epochs=1).compute(tiny_evaluation(tmp_path, data=TinyData(rows=80), samples=5000))
    assert {each.conditions["pairs"] for each in found} == {20}


def test_both_spaces_can_be_measured_at_once(tmp_path):
    spaces = [numbers(measured(tmp_path, space=space, samples=64, epochs=1)) for space in ("images", "latents")]
    assert not set(spaces[0]) & set(spaces[1])


def test_the_backbones_own_prior_is_measured_once_and_the_note_says_so(tmp_path):
    found = TwoSample(epochs=1).compute(tiny_evaluation(tmp_path, RootPrior(LAYOUT)))
    assert [each.kind for each in found] == ["gaussian", "gaussian"]
    assert all("nothing is learned" in each.note for each in found)


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others(tmp_path):
    first, again, other = (numbers(measured(tmp_path, samples=64, epochs=2, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_sets_that_do_not_overlap_have_no_standard_error(tmp_path):
    area = of(measured(tmp_path, shift=100.0, epochs=6), "auroc", "prior")
    assert (area.value, area.error) == (1.0, None)


def test_each_row_is_in_one_part_and_a_quarter_is_held_out():
    parts = divide(1000, Noise(0, "test"))
    assert [len(part) for part in parts] == [625, 125, 250]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(1000))


def test_held_out_rows_change_nothing_but_their_own_log_ratios():
    noise = Noise(0, "test")
    positive, negative = noise.normal(400, 5), noise.normal(400, 5) + 1
    parts = divide(400, noise)
    changed, untouched = parts.held_out[:50], slice(50, None)
    before = tell_apart(positive, negative, 4, noise)
    positive[changed] = 1e3
    negative[changed] = -1e3
    after = tell_apart(positive, negative, 4, noise)
    for first, second in zip(before, after, strict=True):
        assert torch.equal(first[untouched], second[untouched])
        assert not torch.equal(first[:50], second[:50])


def test_a_classifier_of_random_labels_is_stopped_before_it_learns_them():
    noise = Noise(3, "test")
    pixels = noise.integers(256, 600, 3, 12, 8).to(torch.uint8)
    f = tell_apart(pixels[:300], pixels[300:], 20, noise)
    assert torch.cat(f).abs().mean() < 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 8), (1, 28, 28), (3, 256, 256), (7,)])
def test_a_new_classifier_knows_nothing_about_samples_of_any_shape(shape):
    samples = Noise(0, "test").integers(256, 2, *shape)
    net = new_net(shape, seed=0).eval()
    assert torch.equal(net(samples.float() if len(shape) == 1 else samples.to(torch.uint8)), torch.zeros(2, 1))


def test_every_process_has_the_numbers_of_the_first(tmp_path):
    joined = []

    def gather(tensor):
        joined.append(tensor)
        return torch.cat([tensor, tensor])

    alone = measured(tmp_path, samples=64, epochs=2)
    first = measured(tmp_path, samples=64, epochs=2, world=2, rank=0, gather=gather)
    assert [each.value for each in first] == [each.value for each in alone]
    received = iter(joined)
    second = measured(
        tmp_path, samples=64, epochs=2, world=2, rank=1, gather=lambda tensor: torch.cat([next(received)] * 2)
    )
    assert [each.value for each in second] == [each.value for each in alone]


def test_too_few_samples_or_images_are_refused_before_training_with_the_number_needed(tmp_path):
    with pytest.raises(ConfigError, match=r"needs 64 samples.*evaluate\.samples = 60.*evaluate\.samples of 64"):
        TwoSample().check(plan_of(tiny_evaluation(tmp_path, samples=60)))
    few = plan_of(tiny_evaluation(tmp_path, data=TinyData(rows=50)))
    with pytest.raises(ConfigError, match="50 images in 'train'; bring more images"):
        TwoSample().check(few)


def test_draws_that_are_not_finite_are_an_error(tmp_path):
    prior = ShiftedPrior(LAYOUT, 1.0, broken=(3,))
    for space in ("images", "latents"):
        with pytest.raises(NonFiniteError, match="1 of 128"):
            TwoSample(space=space, epochs=1).compute(tiny_evaluation(tmp_path, prior, samples=128))
