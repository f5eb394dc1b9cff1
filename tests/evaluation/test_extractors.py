"""What the core does with extractors, whichever they are."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_evaluation

from hebm import registry
from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.evaluation.extractors import Extractor, ExtractorRecipe
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.evaluation.result import evaluate


class Sides(Extractor):
    """Return the pixels, scaled, as features."""

    name = "pixels"
    widths = {"features": 64}

    def __init__(self, scale):
        self.scale, self.sha256 = scale, f"{scale:064.0f}"

    def __call__(self, pixels):
        return {"features": pixels.flatten(1).float() * self.scale}

    def notes(self):
        return {"scale": self.scale}


@recipe
class Pixels(ExtractorRecipe):
    """Take the pixels as features."""

    scale: float = option(1.0, doc="multiplies them")

    def build(self, context):
        built.append(self)
        return Sides(self.scale)


@recipe
class Coloured(Pixels):
    """An extractor that accepts only colour images."""

    channels = (3,)


@recipe
class Labelled(Pixels):
    """Accept images with class labels only."""

    needs_classes = True


@recipe
class Distance(MetricRecipe):
    """The distance in an extractor of its own."""

    extractor: ExtractorRecipe | None = option(None, doc="the network")

    def compute(self, evaluation):
        evaluation.features("data", extractor=self.extractor)
        return [Measurement("distance", evaluation.distance("gaussian"), "distance")]


built = []


@pytest.fixture(autouse=True)
def registered():
    built.clear()
    names = {"pixels": Pixels, "coloured": Coloured, "labelled": Labelled}
    for name, cls in names.items():
        registry.register("hebm_extractors", name, cls)
    yield
    for name in names:
        registry.unregister("hebm_extractors", name)


def test_any_registered_extractor_measures_and_describes_itself_in_the_result(tmp_path):
    result = evaluate(tiny_evaluation(tmp_path, extractors=(Pixels(scale=2.0),), metrics=(Distance(),)))
    assert result.extractors["pixels"] == {"name": "pixels", "sha256": f"{2:064}", "features": 64, "scale": 2.0}


def test_an_extractor_is_loaded_once_whoever_asks_for_it(tmp_path):
    evaluation = tiny_evaluation(tmp_path, extractors=(Pixels(),))
    assert evaluation.extractor() is evaluation.extractor("pixels") is evaluation.extractor(Pixels())
    assert built == [Pixels()]


def test_two_extractors_of_one_name_with_different_settings_are_refused_not_mixed_up(tmp_path):
    evaluation = tiny_evaluation(tmp_path, extractors=(Pixels(),), metrics=(Distance(extractor=Pixels(scale=3.0)),))
    evaluation.extractor()
    with pytest.raises(ConfigError, match=r'two extractors "pixels" with different settings.*scale=3\.0.*scale=1\.0'):
        evaluation.settings.metrics[0].compute(evaluation)


def test_an_extractor_that_is_not_suited_to_the_images_says_why_and_names_those_that_are(tmp_path):
    evaluation = tiny_evaluation(tmp_path, extractors=(Coloured(),))
    with pytest.raises(
        ConfigError, match=r'"coloured" takes images of 3 channels, these have 1; use .* "pixels"'
    ) as it:
        evaluation.extractor()
    assert '"labelled"' in str(it.value)
    evaluation = tiny_evaluation(tmp_path, extractors=(Labelled(),))
    evaluation.splits["train"].labels = None
    with pytest.raises(ConfigError, match=r'"labelled" needs images with class labels.*"pixels"') as it:
        evaluation.extractor()
    assert '"coloured"' not in str(it.value)
    assert '"classifier"' not in str(it.value)
    assert built == []


def test_distances_come_in_every_extractor_of_the_settings_from_the_same_draws(tmp_path, monkeypatch):
    decoded = []
    evaluation = tiny_evaluation(tmp_path, extractors=(Pixels(), Labelled(scale=2.0)))
    evaluation.extractor("labelled").name = "labelled"
    decode = evaluation.decoded
    monkeypatch.setattr(evaluation, "decoded", lambda *which: decoded.append(which) or decode(*which))
    found = evaluation.distances("prior")
    assert list(found) == ["pixels", "labelled"]
    assert {name: estimate.value for name, estimate in found.items()} == {
        name: evaluation.distance("prior", name) for name in found
    }
    assert evaluation.distance("prior") == found["pixels"].value == pytest.approx(found["labelled"].value / 4)
    assert len(decoded) == len(set(decoded))


def test_images_that_are_forgotten_are_made_again_and_are_the_same(tmp_path):
    evaluation, kind = tiny_evaluation(tmp_path, extractors=(Pixels(),)), ("gaussian", 0.7)
    before = evaluation.distance(kind)
    evaluation.forget(kind)
    assert evaluation.distance(kind) == before


def test_features_of_several_extractors_are_kept_apart(tmp_path):
    evaluation = tiny_evaluation(tmp_path, extractors=(Pixels(scale=2.0),))
    other = evaluation.extractor(Labelled())
    other.name = "labelled"
    assert torch.equal(evaluation.features("data"), 2 * evaluation.features("data", extractor="labelled"))
