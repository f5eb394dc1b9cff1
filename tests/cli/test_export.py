"""`hebm export` as a user meets it."""

import argparse
import shlex
from pathlib import Path

import torch
from real_runs import hebm, tiny, train

from hebm.store import foreign

VECTORS = Path(__file__).parents[1] / "vectors"
TINY = VECTORS / "nvae" / "tiny_cifar" / "checkpoint.pt"


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


def test_the_options_that_read_the_file_again_are_printed_and_do(tmp_path):
    words = ["--encoder", "16d4,4x1,4d4,1x2", "--decoder", "1x1,4m1,4x1,16m4,16x1", "--normalisation", "ffhq256"]
    files = (VECTORS / "vdvae" / "tiny_ffhq256" / "trained").iterdir()
    imported = hebm("import", "vdvae", *sorted(files), "-o", tmp_path / "run", *words)
    assert imported.status == 0, imported.stderr
    assert "note: iter-7-model-ema.th is used, the averaged weights (EMA)" in imported.stderr
    process = hebm("export", "vdvae", tmp_path / "run", "-o", tmp_path)
    assert process.status == 0, process.stderr
    assert f"178 tensors of step 7 in {tmp_path / 'iter-7-model-ema.th'}" in process.stdout
    (line,) = (line for line in process.stdout.splitlines() if line.startswith("read it by: hebm "))
    again = hebm(*shlex.split(line.removeprefix("read it by: hebm ").replace("RUN", str(tmp_path / "again"))))
    assert again.status == 0, again.stderr
    one, other = ((tmp_path / run / "config.toml").read_text() for run in ("run", "again"))
    assert one.partition("[backbone]")[2].partition("[")[0] == other.partition("[backbone]")[2].partition("[")[0]
