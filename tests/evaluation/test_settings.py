from __future__ import annotations

import pytest
import torch

from hebm.config.document import read
from hebm.config.structure import structure
from hebm.data.images import ArrayImages
from hebm.errors import ConfigError
from hebm.evaluation.settings import EvaluateSettings
from hebm.registry import find, name_of


def test_the_defaults_are_registered_components():
    assert [name_of(metric) for metric in EvaluateSettings().metrics] == ["fd", "gap-closed"]


def test_an_extractor_asked_for_by_name_is_that_of_the_settings_if_they_have_one_of_this_name():
    own = find("hebm_extractors", "inception")(weights="somewhere")
    settings = EvaluateSettings(metrics=(), extractors=(find("hebm_extractors", "classifier")(), own))
    assert settings.extractor_called("inception") is own
    assert name_of(settings.extractor_called("classifier")) == "classifier"


@pytest.mark.parametrize("key", ["extractor_weights", "extractor_sha256"])
def test_a_former_key_of_the_extractor_is_refused_with_its_new_name(tmp_path, key):
    file, now = tmp_path / "settings.toml", rf"extractors\[0\]\.{key.removeprefix('extractor_')}"
    for chosen, name in (("inception", now), ("classifier", "extractors")):
        file.write_text(f'extractors = ["{chosen}"]\n{key} = "x"\n')
        with pytest.raises(ConfigError, match=rf"settings\.toml:2: {key}: this key is now {name}$"):
            structure(EvaluateSettings, read(file))


@pytest.mark.parametrize("written", ['extractor = "inception"', '[extractor]\ntype = "inception"'])
def test_the_former_key_of_a_single_extractor_is_refused_with_its_new_name(tmp_path, written):
    file = tmp_path / "settings.toml"
    file.write_text(f"{written}\n")
    with pytest.raises(ConfigError, match=r"settings\.toml:1: extractor: this key is now extractors$"):
        structure(EvaluateSettings, read(file))


def test_one_extractor_named_twice_is_refused():
    made = find("hebm_extractors", "inception")
    with pytest.raises(ConfigError, match=r'evaluate\.extractors: "inception" is named 2 times'):
        EvaluateSettings(metrics=(), extractors=(made(), made(weights="other")))


@pytest.mark.parametrize(
    ("labels", "classes", "attributes", "expected"),
    [
        (torch.tensor([0, 1]), ("a", "b"), (), "classifier"),
        (torch.tensor([0, 0]), ("a",), (), "efficientnet-lite0"),
        (torch.tensor([[0, 1], [1, 1]]), (), ("x", "y"), "efficientnet-lite0"),
        (None, (), (), "efficientnet-lite0"),
    ],
)
def test_images_without_class_labels_get_an_extractor_that_needs_none(labels, classes, attributes, expected):
    images = ArrayImages(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), labels, classes, attributes)
    assert EvaluateSettings(metrics=()).suited_to(images).extractor_names == (expected,)


def test_extractors_that_are_named_are_kept_whatever_the_images():
    images = ArrayImages(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    settings = EvaluateSettings(metrics=(), extractors=(find("hebm_extractors", "classifier")(),))
    assert settings.suited_to(images) == settings
    with pytest.raises(ConfigError, match="needs images with class labels"):
        settings.extractors[0].check(images)


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 1},
        {"split": "valid"},
        {"extractors": ("vgg",)},
        {"decode": "mode"},
        {"temperatures": (0.0,)},
        {"batch_size": 63},
        {"metrics": ("fd",)},
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EvaluateSettings(**{"metrics": (), **wrong})
