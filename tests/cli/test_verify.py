"""R16 by whole commands: every command names a changed file of a run and makes nothing of it; there is a way on."""

import shutil
import subprocess

import pytest
from PIL import Image
from real_runs import hebm, tiny, write_config

from hebm.store.checkpoints import list_checkpoints


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    process = hebm("run", write_config(folder, tiny(evaluate={"metrics": ["likelihood"]})), "--runs", folder)
    assert process.status == 0, process.stderr
    (folder / "images").mkdir()
    Image.new("L", (8, 8)).save(folder / "images" / "a.png")
    return folder


@pytest.fixture
def home(tmp_path, finished):
    return shutil.copytree(finished, tmp_path / "home")


def commands(home):
    """Every command that opens a run."""
    run, out = home / "tiny", home / "out"
    yield "run", home / "experiment.toml", "--runs", home, "--quiet"
    yield "run", run / "config.toml"
    yield "evaluate", run
    yield "analyse", run, "temperature"
    yield "sample", run, "-n", "2", "-o", out
    yield "detect", run, home / "images", "-o", out
    yield "report", run
    yield "compare", run, "-o", home / "out.html"
    yield "export", "nvae", run, "-o", out
    yield "verify", run
    yield "run", home / "experiment.toml", "--runs", home, "--set", "name=other", "--set", f"train.backbone_from={run}"


ELBO = b'"name": "elbo",\n      "value": -'
"""What stands before the first digit of a number in metrics.json."""


def flip(path, what):
    """Flip the lowest bit of a digit."""
    text = path.read_bytes()
    at = text.index(what) + len(what)
    path.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])


@pytest.mark.parametrize(
    ("name", "what"),
    [("config.toml", b"step_size = 0."), ("manifest.json", b'"height": '), ("metrics.json", ELBO)],
)
def test_one_flipped_bit_is_named_by_every_command_and_nothing_is_drawn_or_written(home, name, what):
    flip(home / "tiny" / name, what)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.name != "run.lock"}
    for command in commands(home):
        process = hebm(*command)
        assert process.status == 1, command
        assert f"{home / 'tiny' / name} was changed or damaged since hebm wrote it" in process.stderr, command
        assert f"hebm verify {home / 'tiny'} --accept" in process.stderr
        assert "Traceback" not in process.stderr
        assert process.stdout == "", command
    shutil.rmtree(home / "other", ignore_errors=True)
    after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.name != "run.lock"}
    assert after == before


def test_an_accepted_change_opens_the_run_again_and_is_recorded(home):
    flip(home / "tiny" / "metrics.json", ELBO)
    process = hebm("verify", home / "tiny", "--accept")
    assert (process.status, process.stdout.splitlines()[0]) == (0, "accepted  metrics.json")
    assert hebm("report", home / "tiny").status == 0
    assert "metrics.json: changed by hand and accepted" in (home / "tiny" / "report.html").read_text()


def test_deleted_metrics_are_measured_again(home):
    flip(home / "tiny" / "metrics.json", ELBO)
    (home / "tiny" / "metrics.json").unlink()
    assert hebm("evaluate", home / "tiny").status == 0
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=home / "tiny", check=True, capture_output=True)


def test_verify_names_the_damaged_checkpoint(home):
    good = hebm("verify", home / "tiny")
    assert good.status == 0
    assert good.stdout.splitlines()[0] == "good      config.toml, manifest.json, metrics.json"
    (list_checkpoints(home / "tiny" / "checkpoints")[-1] / "prior.safetensors").write_bytes(b"")
    process = hebm("verify", home / "tiny")
    assert process.status == 1
    assert "prior.safetensors is damaged: it has 0 bytes" in process.stdout
    assert "1 of 2 checkpoints are damaged" in process.stderr


def test_a_run_that_is_at_work_is_not_accepted_under_its_hands(home):
    from hebm.store.lock import RunLock

    with RunLock(home / "tiny"):
        process = hebm("verify", home / "tiny", "--accept")
    assert process.status == 1
    assert "in use by another run" in process.stderr


def test_a_log_of_another_shape_is_named(home):
    (home / "tiny" / "metrics.jsonl").write_text(
        '{"total_step": 1, "step": "x", "phase": 3}\n' * 2 + '{"total_step": 3}\n'
    )
    process = hebm("report", home / "tiny")
    assert process.status == 1
    assert "metrics.jsonl:1: is not a record of a log" in process.stderr
