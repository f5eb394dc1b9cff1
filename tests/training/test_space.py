"""The space that checkpoints need is checked before training starts."""

import shutil

import pytest
from real_runs import hebm, tiny, train, write_config

from hebm import pipeline
from hebm.config.experiment import Experiment
from hebm.errors import CheckpointError
from hebm.store.checkpoints import list_checkpoints
from hebm.training.space import require_space


def test_no_checkpoint_is_larger_than_was_counted_and_none_much_smaller(tmp_path):
    table = tiny()
    assembly = pipeline.assemble(Experiment.load(write_config(tmp_path, table)))
    assert train(table, tmp_path / "tiny")
    sizes = [
        sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
        for folder in list_checkpoints(tmp_path / "tiny" / "checkpoints")
    ]
    assert assembly.checkpoint_bytes / 2 < max(sizes) < assembly.checkpoint_bytes + 50_000  # with names and shapes


def test_a_disk_without_room_for_checkpoints_is_an_error_that_says_what_to_do(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    require_space(tmp_path / "not" / "there" / "yet", free // 4, 3)
    with pytest.raises(
        CheckpointError, match=r"MiB free, but training needs room for 3 checkpoints of .* lower run\.keep"
    ):
        require_space(tmp_path / "not" / "there" / "yet", free, 3)


def test_a_run_ends_before_its_first_step(tmp_path):
    config = write_config(tmp_path, tiny(run={"keep": 10**9}))
    process = hebm("run", config, "--runs", tmp_path)
    assert process.status == 1
    assert "training needs room for 1000000001 checkpoints" in process.stderr
    assert "step" not in process.stderr
