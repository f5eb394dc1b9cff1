"""The log of a resumed run equals an uninterrupted one's; a reader never sees half a file."""

import json
import os
import subprocess
import sys

import pytest

from hebm.errors import CheckpointError
from hebm.store.metrics import MetricsLog, write_json_atomic


def filled(path, steps):
    log = MetricsLog(path)
    for step in steps:
        log.append({"total_step": step, "loss": 1 / (step + 1), "phase": "prior"})
    return log


def test_records_come_back_in_order(tmp_path):
    log = filled(tmp_path / "m.jsonl", [1, 2, 3])
    assert [record["total_step"] for record in log.read()] == [1, 2, 3]
    assert log.read()[2]["loss"] == 1 / 4


def test_a_log_that_does_not_exist_is_empty(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.truncate_after(3)
    log.sync()
    assert log.read() == []
    assert os.listdir(tmp_path) == []


def test_a_resumed_log_equals_an_uninterrupted_one_byte_for_byte(tmp_path):
    whole = filled(tmp_path / "whole.jsonl", range(1, 9))
    log = filled(tmp_path / "m.jsonl", range(1, 7))
    with open(log.path, "ab") as file:
        file.write(b'{"total_step": 7, "lo')
    log.truncate_after(4)
    filled(log.path, range(5, 9))
    assert log.path.read_bytes() == whole.path.read_bytes()


def test_a_half_written_last_line_is_dropped_wherever_it_was_cut(tmp_path):
    filled(tmp_path / "m.jsonl", [1, 2])
    whole = (tmp_path / "m.jsonl").read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        (tmp_path / "m.jsonl").write_bytes(whole[:cut])
        log = MetricsLog(tmp_path / "m.jsonl")
        assert len(log.read()) == 1
        log.truncate_after(9)
        assert log.path.read_bytes() == whole[:first]


def test_zeros_at_the_end_as_after_a_power_cut_are_dropped(tmp_path):
    log = filled(tmp_path / "m.jsonl", [1])
    with open(log.path, "ab") as file:
        file.write(b"\0" * 100 + b"\n" + b"\0" * 10)
    log.truncate_after(9)
    assert [record["total_step"] for record in log.read()] == [1]


def test_a_damaged_line_between_good_ones_is_refused_by_number(tmp_path):
    log = filled(tmp_path / "m.jsonl", [1, 2, 3])
    lines = log.path.read_text().splitlines()
    log.path.write_text("\n".join([lines[0], lines[1][:5], lines[2], ""]))
    with pytest.raises(CheckpointError, match=r"m\.jsonl:2: "):
        log.truncate_after(9)


def test_nan_and_infinity_are_null_everywhere(tmp_path):
    bad = {"total_step": 1, "loss": float("nan"), "a": float("inf"), "b": -float("inf")}
    nested = {**bad, "terms": {"a": [float("inf"), 1.0], "b": (-float("inf"),)}}
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(bad)
    write_json_atomic(tmp_path / "m.json", nested)
    want = {"total_step": 1, "loss": None, "a": None, "b": None}
    assert log.read() == [want]
    assert json.loads((tmp_path / "m.json").read_text()) == {**want, "terms": {"a": [None, 1.0], "b": [None]}}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"step": 1}, "total_step is missing"),
        ({"total_step": 1.5}, r"total_step must be a whole number, not 1\.5"),
        ({"total_step": True}, "total_step must be a whole number, not true"),
        ({"total_step": 1, "step": "x"}, "step must be a whole number, not 'x'"),
        ({"total_step": 1, "phase": 3}, "phase must be text, not 3"),
        ({"total_step": 1, "loss": "low"}, "loss must be a number or null, not 'low'"),
        ({"total_step": 1, "loss": [1.0]}, "loss must be a number or null, not a list"),
    ],
)
def test_a_record_of_another_shape_is_neither_written_nor_read(tmp_path, record, message):
    log = filled(tmp_path / "m.jsonl", [1])
    with pytest.raises(ValueError, match=message):
        log.append(record)
    with open(log.path, "ab") as file:
        file.write(json.dumps(record).encode() + b"\n")
    with pytest.raises(CheckpointError, match=rf"m\.jsonl:2: .*{message}"):
        log.read()


def test_a_log_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        MetricsLog(tmp_path / "file" / "m.jsonl").append({"total_step": 1})
    with pytest.raises(CheckpointError, match="cannot write"):
        write_json_atomic(tmp_path / "file" / "m.json", {})


KILLED = """
import os, signal, sys
from pathlib import Path
from hebm.store.metrics import MetricsLog
log = MetricsLog(Path(sys.argv[1]))
for step in range(1, 6):
    log.append({"total_step": step})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_right_after_an_append_loses_no_record(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "m.jsonl"], check=False)
    assert done.returncode == -9
    assert [record["total_step"] for record in MetricsLog(tmp_path / "m.jsonl").read()] == [1, 2, 3, 4, 5]
