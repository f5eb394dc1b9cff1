"""The control is the Gaussian prior at its best temperature, wherever that lies."""

from types import SimpleNamespace

import pytest
import torch
from tiny_models import numbers

from hebm.evaluation.gap import estimated_gap
from hebm.evaluation.jackknife import Estimate
from hebm.evaluation.metrics_file import Results
from hebm_plugins.metrics.gap import GapClosed, in_words

FACTORS = {"classifier": 1, "twofold": 2}


def estimate(value, noise=0.0):
    return Estimate(value, value + noise * torch.tensor([-1.0, 1.0], dtype=torch.float64))


def said(prior, control, noise=0.0, temperature=0.9):
    """What is said of distances whose gap is 1."""
    fd = {"gaussian": estimate(2.0), "prior": estimate(2.0 - prior, noise), "reconstruction": estimate(1.0)}
    fd["scaled-gaussian"] = estimate(2.0 - control)
    gap = estimated_gap(fd["gaussian"], fd["prior"], fd["scaled-gaussian"], fd["reconstruction"])
    return in_words(gap, fd, temperature)


class Measured:
    """An evaluation whose scaled Gaussian is best at a known temperature; distances in "twofold" are doubled."""

    kinds = ("gaussian", "prior", "reconstruction")

    def __init__(self, best, temperatures=(0.8, 1.25, 1.5), extractors=("classifier",), count=1000, **known):
        self.best, self.known, self.images = best, known, count
        self.settings = SimpleNamespace(
            temperatures=temperatures, extractor_names=extractors, samples=count, temperature_samples=count
        )
        self.kept, self.most, self.noise = set(), 0, 0.0

    def extractor(self, name):
        return SimpleNamespace(name=name, widths={"features": 64 * FACTORS[name]})

    @property
    def fewest(self):
        return self.images

    def distance(self, kind):
        known = {"gaussian": self.at(1.0), "prior": 3.0, "reconstruction": 1.0, "data": 0.0} | self.known
        if isinstance(kind, str):
            return known[kind]
        self.kept.add(kind)
        self.most = max(self.most, len(self.kept))
        return self.at(kind[1])

    def measured_on(self, samples):
        assert samples == self.images
        return self

    def distances(self, kind):
        assert isinstance(kind, str) or kind in self.kept  # so that it is not drawn twice
        return {name: estimate(FACTORS[name] * self.distance(kind)) for name in self.settings.extractor_names}

    def estimate(self, kind):
        return estimate(self.distance(kind), self.noise * (1.0 if kind == "gaussian" else kind[1]))

    def forget(self, kind):
        self.kept.discard(kind)

    def at(self, temperature):
        return 2.0 + (temperature - self.best) ** 2


def computed(best, temperatures=(0.8, 1.25, 1.5), **known):
    return GapClosed().compute(Measured(best, temperatures, **known))


@pytest.mark.parametrize("best", [0.3, 0.8, 1.25, 2.4, 4.0])
def test_the_search_goes_on_beyond_the_grid_until_the_best_lies_inside(best):
    found = numbers(computed(best))
    assert found["temperature.scaled-gaussian"] == pytest.approx(best, rel=0.25)
    assert found["fd.scaled-gaussian"] <= found["fd.gaussian"]


@pytest.mark.parametrize(("best_of_few", "control"), [(1.25, 1.25), (0.8, 1.0)])
def test_the_search_uses_few_images_and_the_best_is_measured_on_all(best_of_few, control):
    few, evaluation = Measured(best_of_few, count=300), Measured(1.3)
    evaluation.settings.temperature_samples = 300
    evaluation.measured_on = {300: few}.__getitem__
    evaluation.kept.add(("gaussian", best_of_few))  # a draw of it alone is allowed
    found = numbers(GapClosed().compute(evaluation))
    assert found["temperature.scaled-gaussian"] == control  # not one that is worse than 1 on all images
    assert found["fd.scaled-gaussian"] == evaluation.at(control)
    assert few.most >= 1
    assert evaluation.most <= 1


@pytest.mark.parametrize(("noise", "control"), [(0.0, 1.5), (10.0, 1.25)])
def test_a_neighbour_that_few_images_do_not_tell_from_the_best_is_compared_on_all_images(noise, control):
    few, evaluation = Measured(1.5, (1.25, 1.5, 1.75), count=300), Measured(1.3)
    few.noise, evaluation.settings.temperature_samples = noise, 300
    evaluation.measured_on = {300: few}.__getitem__
    evaluation.kept |= {("gaussian", temperature) for temperature in (1.25, 1.5, 1.75)}
    assert numbers(GapClosed().compute(evaluation))["temperature.scaled-gaussian"] == control
    assert few.kept == set()


def test_no_temperatures_no_search():
    assert numbers(computed(3.0, ()))["temperature.scaled-gaussian"] == 1.0


def test_gap_and_control_are_fractions_of_the_same_hole():
    found = numbers(computed(2.0))
    gaussian = found["fd.gaussian"]
    assert found["gap-closed.prior"] == pytest.approx((gaussian - 3.0) / (gaussian - 1.0))
    assert found["gap-closed.scaled-gaussian"] == pytest.approx(
        (gaussian - found["fd.scaled-gaussian"]) / (gaussian - 1.0)
    )


def test_the_result_in_words_says_gap_interval_control_and_distances():
    text = said(0.779, 0.29, noise=0.01)
    for number in ("closes 77.9 ± 1.0 %", "(95 % interval 75.9 % to 79.9 %)", "1.22 ± 0.010", "0.900"):
        assert number in text
    assert "closes 29.0 ± 0.0 %; the learned prior adds 48.9 ± 1.0 points to that." in text


def test_a_prior_that_is_worse_than_the_control_is_said_to_be():
    assert "stays 21.0 ± 0.0 points below it" in said(0.08, 0.29)
    assert "widens it: -8.0" in said(-0.08, 0.29)


def test_an_advantage_within_its_noise_and_a_prior_that_learned_nothing_are_said_to_be_that():
    assert "adds 1.0 ± 2.0 points to that, which is no more than noise" in said(0.3, 0.29, noise=0.02)
    assert said(0.0, 0.29).startswith("This prior is the backbone’s own Gaussian prior")


def test_a_gap_within_its_noise_is_not_measurable():
    class Noisy(Measured):
        def distances(self, kind):
            return {"classifier": estimate(self.distance(kind), noise=2.0 if kind == "reconstruction" else 0.0)}

    gap, control, *_ = GapClosed().compute(Noisy(2.0))
    assert not gap.found
    assert not control.found
    assert gap.note.startswith("not measurable")
    assert "no more than noise" in gap.summary


def test_an_undefined_gap_has_no_number_and_is_explained():
    gap, control, *_ = computed(2.0, reconstruction=99.0)
    assert not gap.found
    assert not control.found
    assert "not defined" in gap.note
    assert "Train the backbone" in gap.summary


BOTH = ("classifier", "twofold")


def test_several_extractors_give_a_gap_each_at_the_temperature_of_the_first():
    found = Results(tuple(computed(2.0, extractors=BOTH)))
    first, second = (found.get("gap-closed", "prior", extractor=name) for name in BOTH)
    assert first.value == pytest.approx(second.value)
    assert found.get("fd", "scaled-gaussian", extractor="twofold").value == pytest.approx(
        2 * found.get("fd", "scaled-gaussian", extractor="classifier").value
    )
    assert [m.extractor for m in found.measurements if m.name == "temperature"] == ["classifier"]
    assert first.summary.startswith("In features of classifier: This prior is the backbone")
    assert "(the Gaussian prior at the temperature that is best in classifier, " in second.summary
    control = found.get("gap-closed", "scaled-gaussian", extractor="twofold")
    assert control.note == "in twofold, at the temperature that is best in classifier"


def test_no_more_than_the_best_temperature_and_the_one_being_tried_are_kept():
    evaluation = Measured(4.0, extractors=BOTH)
    GapClosed().compute(evaluation)
    assert evaluation.most == 2
    assert evaluation.kept == set()


@pytest.mark.parametrize(("count", "noted"), [(127, BOTH), (128, ("twofold",)), (256, ())])
def test_a_distance_of_fewer_images_than_twice_the_features_says_so(count, noted):
    found = [m for m in computed(2.0, extractors=BOTH, count=count) if m.name == "fd"]
    assert {m.extractor for m in found if m.note} == set(noted)
    assert all(f"{count} images are few" in m.note for m in found if m.note)
