"""`hebm sample` and `hebm detect`, killed again and again: their outputs become those of an uninterrupted call."""

import random
import shutil
import time
from contextlib import suppress

import pytest
from real_runs import fork_server, hebm, tiny, train

SAMPLE = ("-n", 3000, "--steps", 30, "--batch-size", 64)
COMMANDS = {"images": SAMPLE, "x.npz": SAMPLE, "x.png": SAMPLE, "s.csv": ("--batch-size", 64, "--draws", 4)}


def content(output):
    if output.is_file():
        return output.read_bytes()
    return {path.name: path.read_bytes() for path in output.iterdir()}


def command(run, folder, name, output):
    if name == "s.csv":
        return "detect", run, folder / "whole" / "images", "-o", output, *COMMANDS[name]
    return "sample", run, "-o", output, *COMMANDS[name]


@pytest.mark.slow
def test_outputs_survive_kills_at_random_moments(tmp_path):
    draw = random.Random(0)
    assert train(tiny(), tmp_path / "tiny")
    for name in COMMANDS:
        began = time.monotonic()
        whole = hebm(*command(tmp_path / "tiny", tmp_path, name, tmp_path / "whole" / name))
        assert whole.status == 0, whole.stderr
        seconds, output = time.monotonic() - began, tmp_path / "cut" / name
        for _ in range(5):
            process = fork_server().hebm(*command(tmp_path / "tiny", tmp_path, name, output))
            time.sleep(draw.uniform(0.2, 0.8) * seconds)
            with suppress(ProcessLookupError):
                process.send(9)
            process.end()
            if output.exists() and not (output.parent / f"{name}.partial.jsonl").exists():  # quicker than the kill
                assert content(output) == content(tmp_path / "whole" / name)
                shutil.rmtree(tmp_path / "cut")
        last = hebm(*command(tmp_path / "tiny", tmp_path, name, output))
        assert last.status == 0, last.stderr
        assert content(output) == content(tmp_path / "whole" / name)
        assert [path.name for path in output.parent.iterdir()] == [name]
        shutil.rmtree(tmp_path / "cut")
