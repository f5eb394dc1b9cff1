"""R2, R16: a damaged run folder is refused by name, or gives what the whole one gives."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from in_time import in_time
from quiet import QUIET
from real_runs import tiny, write_config

from hebm.cli.main import main

TABLE = {"samples": 64, "metrics": [{"type": "likelihood", "learned": False}]}
JSON = ["[]", "{}", "null", "7", '"x"', '{"a": [1]}', "[" * 5000, '{"format": 1e999}', '[{"step": "x"}, null]']
TOML = ["", "x = 1", "[data]\ntype = 3", "name = [1]", "[run]\ncheckpoint_every = -1"]
ELSEWHERE = "not a file of this run\n"
SECONDS = re.compile(r"[\d.]+(?= s\b)|(?<=seconds)[^\n]*|(?<=training)[^\n]*")


def hebm(*words):
    with in_time():
        return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run."""
    return home_with_a_run(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """A folder with a finished run that was measured twice and analysed."""
    home = home_with_a_run(tmp_path_factory.mktemp("home"))
    run = home / "runs" / "tiny"
    works("evaluate", run, "--name", "k1", "--set", "evaluate.chain_steps=1")
    works("analyse", run, "temperature")
    return home


def home_with_a_run(home):
    works("run", write_config(home, tiny(evaluate=TABLE)), "--runs", home / "runs")
    (home / "elsewhere" / "folder").mkdir(parents=True)
    (home / "elsewhere" / "file").write_text(ELSEWHERE)
    (home / "elsewhere" / "folder" / "file").write_text(ELSEWHERE)
    return home


def works(*words):
    done = hebm(*words)
    assert done.exit_code == 0, done.output


# ---------------------------------------------------------------- commands, and what they make


def _sample(home):
    path = home / "out" / "x.npz"
    return ("sample", home / "runs" / "tiny", "-n", "4", "-o", path), lambda _: np.load(path)["images"].tolist()


def _report(home):
    run = home / "runs" / "tiny"
    return ("report", run), lambda _: SECONDS.sub("", (run / "report.html").read_text())


def _compare(home):
    return ("compare", home / "runs" / "tiny"), lambda done: done.stdout


def _evaluate(home):
    run = home / "runs" / "tiny"
    return ("evaluate", run), lambda _: measured(run)


def _verify(home):
    return ("verify", home / "runs" / "tiny"), lambda done: done.stdout


def _run(home):
    run = home / "runs" / "tiny"
    return ("run", run / "config.toml", "--runs", home / "runs"), lambda _: measured(run)


def _analyse(home):
    run = home / "runs" / "tiny"
    return ("analyse", run, "temperature"), lambda _: json.loads(
        (run / "analyses/temperature/section.json").read_text()
    )


def _check(home):
    return ("check", home / "runs" / "tiny" / "config.toml"), lambda done: done.stdout.splitlines()[-1][:5]


COMMANDS = {"sample": _sample, "report": _report, "compare": _compare, "evaluate": _evaluate}
COMMANDS |= {"verify": _verify, "run": _run, "analyse": _analyse, "check": _check}


def measured(run):
    rows = json.loads((run / "metrics.json").read_text())["measurements"]
    return [(row["name"], row["value"]) for row in rows if "seconds" not in row["name"]]


@cache
def expected(whole, command):
    with tempfile.TemporaryDirectory() as folder:
        home = copied(whole, Path(folder))
        words, made = COMMANDS[command](home)
        done = hebm(*words)
        assert done.exit_code == 0, done.output
        return str(made(done)).replace(str(home), "HOME")


# ---------------------------------------------------------------- damages


def cut(path, rest, where, text):
    data = path.read_bytes()
    path.write_bytes(data[: int(where * len(data))])


def emptied(path, rest, where, text):
    path.write_bytes(b"")


def deleted(path, rest, where, text):
    path.unlink()


def flipped(path, rest, where, text):
    data = bytearray(path.read_bytes())
    if data:
        place = int(where * len(data))
        data[place] ^= 1 << place % 8
    path.write_bytes(data)


def reshaped(path, rest, where, text):
    path.write_text(text)


def garbled(path, rest, where, text):
    path.write_bytes(b"\xff\xfe\x00" * 99)


def a_folder(path, rest, where, text):
    path.unlink()
    path.mkdir()


def a_pipe(path, rest, where, text):
    path.unlink()
    os.mkfifo(path)


def a_link(path, rest, where, text):
    path.unlink()
    path.symlink_to(rest / ("file" if where < 0.5 else "folder"))


def a_dangling_link(path, rest, where, text):
    path.unlink()
    path.symlink_to(rest / "nothing")


def a_device(path, rest, where, text):
    path.unlink()
    path.symlink_to("/dev/zero" if where < 0.5 else "/dev/null")


MAY_BE_REMOVED = ("metrics.json", "metrics.jsonl", "k1.json", "plots.json", "report.html", "run.lock")
"""What a user may delete: a page says that it is not there, and a run that needs it makes it again."""
DAMAGES = [cut, emptied, deleted, flipped, flipped, reshaped, reshaped, garbled]
DAMAGES += [a_folder, a_pipe, a_link, a_dangling_link, a_device]
QUICK = ["sample", "compare", "verify", "run"]


def cases(commands):
    return st.fixed_dictionaries(
        {
            "file": st.integers(0, 10**6),
            "damage": st.sampled_from(DAMAGES),
            "where": st.floats(0, 1, exclude_max=True),
            "text": st.integers(0, 10**6),
            "summed": st.sampled_from([False, False, True]),
            "command": st.sampled_from(commands),
        }
    )


def copied(whole, folder):
    home = folder / "home"
    shutil.copytree(whole, home, symlinks=True)
    (home / "out").mkdir()
    return home


def files_of(run):
    """The files of a run, one of every kind more often than pictures."""
    every = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    first = [path for path in every if path.suffix in (".json", ".jsonl", ".toml", ".safetensors", ".sha256", "")]
    return [*first, *first, *every]


def summed_again(run):
    """Give the files that have sums their present ones, as `sha256sum` would."""
    lines = []
    for line in (run / "SHA256SUMS").read_text().splitlines():
        name = line.partition("  ")[2]
        if (run / name).is_file():
            lines.append(f"{hashlib.sha256((run / name).read_bytes()).hexdigest()}  {name}\n")
    (run / "SHA256SUMS").write_text("".join(lines))


def outside(home):
    """Everything that no command may change."""
    others = [path for path in home.rglob("*") if not path.is_relative_to(home / "runs" / "tiny")]
    inside = [path for path in others if path.is_file() and not path.is_relative_to(home / "out")]
    return {str(path): path.read_bytes() for path in inside}


def unseen(case, name):
    """Whether a page may differ: numbers of the training log have no sums, as lines are appended to it."""
    return name.name == "metrics.jsonl" and case["damage"] is flipped


def told_or_equal(whole, case):
    with tempfile.TemporaryDirectory() as folder:
        home = copied(whole, Path(folder))
        run = home / "runs" / "tiny"
        files = files_of(run)
        name = files[case["file"] % len(files)]
        texts = TOML if name.suffix == ".toml" else JSON
        case["damage"](run / name, home / "elsewhere", case["where"], texts[case["text"] % len(texts)])
        summed = case["summed"] and name.name in ("config.toml", "manifest.json", "metrics.json", "k1.json")
        if summed and (run / name).is_file() and case["damage"] not in (a_pipe, a_device):
            summed_again(run)
        before = outside(home)
        words, made = COMMANDS[case["command"]](home)
        done = hebm(*words)
        about = f"{case['command']} after {case['damage'].__name__} of {name}: {done.exit_code}\n{done.stderr[-1500:]}"
        assert done.exception is None or isinstance(done.exception, SystemExit), (about, done.exc_info)
        assert done.exit_code in (0, 1, 2), about
        assert outside(home) == before, about
        if summed or unseen(case, name) or (case["damage"] is deleted and name.name in MAY_BE_REMOVED):
            return
        told = any(part in done.output for part in (*name.parts, str(name)) if part not in ("checkpoints", "analyses"))
        if done.exit_code or not told:
            assert told or not done.exit_code, about
            assert done.exit_code or str(made(done)).replace(str(home), "HOME") == expected(whole, case["command"]), (
                about
            )


@given(case=cases(QUICK))
@settings(max_examples=20, **QUIET)
def test_a_damaged_run_folder_is_named_or_changes_nothing(finished, case):
    told_or_equal(finished, case)


@pytest.mark.slow
@given(case=cases(sorted(COMMANDS)))
@settings(max_examples=1000, **QUIET)
def test_a_thousand_damaged_run_folders_are_named_or_change_nothing(analysed, case):
    told_or_equal(analysed, case)
