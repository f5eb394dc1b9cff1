"""The table [run]: one key says where caches are."""

import pytest
from real_runs import hebm, tiny, write_config

from hebm.config.experiment import Experiment
from hebm.errors import ConfigError


def test_the_former_key_of_the_cache_is_refused_with_the_new_one():
    with pytest.raises(ConfigError, match=r"evaluate\.cache: this key is now run\.cache_folder"):
        Experiment.from_table(tiny(evaluate={"cache": "x"}))


def test_a_trained_extractor_is_kept_in_the_cache_folder_of_the_run(tmp_path):
    evaluate, run = {"metrics": ["fd"], "extractors": ["classifier"]}, {"cache_folder": str(tmp_path / "cache")}
    process = hebm("run", write_config(tmp_path, tiny(evaluate=evaluate, run=run)), "--runs", tmp_path)
    assert process.status == 0, process.stderr
    (kept,) = (tmp_path / "cache" / "extractors").iterdir()
    assert "classifier" in kept.name
    assert not list((tmp_path / "tiny").rglob("classifier*"))
