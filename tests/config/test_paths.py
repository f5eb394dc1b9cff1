"""Paths of a configuration that do not exist are named with their key."""

import pytest

from hebm import pipeline
from hebm.config.experiment import Experiment
from hebm.config.paths import located, missing
from hebm.errors import ConfigError


@pytest.mark.parametrize("text", ["nowhere", "x" * 300, "x/" * 3000])
def test_a_path_that_cannot_be_is_named_with_its_key(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = {"data": "digits", "backbone": "two-layer", "prior": "gaussian", "train": {"backbone_from": text}}
    experiment = Experiment.from_table(table)
    assert located(experiment, {"train.backbone_from": {"written": text, "absolute": text}}) == experiment
    (line,) = [line for line in missing(experiment, {}).splitlines() if "backbone_from" in line]
    assert line.endswith(": not found; set it with --set train.backbone_from=PATH")


@pytest.mark.parametrize("folder", ["x" * 300, "~no-such-user-at-all/cache"])
def test_a_cache_folder_that_cannot_be_is_refused_by_its_key(folder):
    table = {"data": "digits", "backbone": "two-layer", "prior": "gaussian", "run": {"cache_folder": folder}}
    with pytest.raises(ConfigError, match=r"^run\.cache_folder cannot be '.*' \(.+\); set another folder$"):
        pipeline.assemble(Experiment.from_table(table))
