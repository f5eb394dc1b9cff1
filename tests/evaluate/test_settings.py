from __future__ import annotations

import pytest

from hebm.errors import ConfigError
from hebm.evaluate.settings import EvaluateSettings
from hebm.registry import name_of


def test_defaults_are_the_registered_metrics():
    assert [name_of(metric) for metric in EvaluateSettings().metrics] == ["fd", "gap-closed"]


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
