"""`hebm export` as a user meets it."""

import argparse
from pathlib import Path

import torch
from real_runs import hebm, tiny, train

from hebm.store import foreign

TINY = Path(__file__).parents[1] / "vectors" / "nvae" / "tiny_cifar" / "checkpoint.pt"


def test_an_imported_run_is_written_back(tmp_path):
    assert hebm("import", "nvae", TINY, "-o", tmp_path / "run").status == 0
    process = hebm("export", "nvae", tmp_path / "run", "-o", tmp_path / "out.pt")
    assert process.status == 0, process.stderr
    assert f"of step 78000 in {tmp_path / 'out.pt'}" in process.stdout
    one, other = (foreign.load(path, (argparse.Namespace,)) for path in (TINY, tmp_path / "out.pt"))
    assert list(one["state_dict"]) == list(other["state_dict"])
    assert all(torch.equal(one["state_dict"][name], other["state_dict"][name]) for name in one["state_dict"])
    assert {**one, "state_dict": 0} == {**other, "state_dict": 0}
    again = hebm("export", "nvae", tmp_path / "run", "-o", tmp_path / "out.pt")
    assert again.status == 1
    assert "exists already" in again.stderr


def test_a_backbone_that_the_format_does_not_know_is_a_message(tmp_path):
    assert train(tiny(), tmp_path / "tiny")
    process = hebm("export", "nvae", tmp_path / "tiny", "-o", tmp_path / "out.pt")
    assert process.status == 1
    assert "TwoLayer" in process.stderr
    assert not (tmp_path / "out.pt").exists()
