from __future__ import annotations

import pytest

from hebm.config.document import read
from hebm.config.structure import structure
from hebm.errors import ConfigError
from hebm.evaluation.settings import EvaluateSettings
from hebm.registry import find, name_of


def test_the_defaults_are_registered_components():
    assert [name_of(metric) for metric in EvaluateSettings().metrics] == ["fd", "gap-closed"]
    assert EvaluateSettings().extractor_name == "classifier"


def test_an_extractor_asked_for_by_name_is_that_of_the_settings_if_they_have_one_of_this_name():
    own = find("hebm_extractors", "inception")(weights="somewhere")
    settings = EvaluateSettings(metrics=(), extractor=own)
    assert settings.extractor_called("inception") is own
    assert name_of(settings.extractor_called("classifier")) == "classifier"


@pytest.mark.parametrize("key", ["extractor_weights", "extractor_sha256"])
def test_a_former_key_of_the_extractor_is_refused_with_its_new_name(tmp_path, key):
    file, now = tmp_path / "settings.toml", key.replace("_", ".")
    for chosen, name in (("inception", now), ("classifier", "extractor")):
        file.write_text(f'extractor = "{chosen}"\n{key} = "x"\n')
        with pytest.raises(ConfigError, match=rf"settings\.toml:2: {key}: this key is now {name}$"):
            structure(EvaluateSettings, read(file))


def test_batches_are_whole_noise_blocks():
    assert [EvaluateSettings(metrics=(), batch_size=n).rows for n in (64, 100, 500, 512)] == [64, 64, 448, 512]


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 1},
        {"split": "valid"},
        {"extractor": "vgg"},
        {"decode": "mode"},
        {"temperatures": (0.0,)},
        {"batch_size": 63},
        {"metrics": ("fd",)},
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EvaluateSettings(**{"metrics": (), **wrong})
