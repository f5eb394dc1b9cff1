from __future__ import annotations

import json
import os
import time

import pytest
from click.testing import CliRunner

from hebm.cli.clean import command
from hebm.store.in_use import InUse


@pytest.fixture
def cache(tmp_path):
    for kind, days in (("draws", 1), ("extractors", 40)):
        (tmp_path / kind).mkdir()
        path = tmp_path / kind / f"{kind}-1"
        path.write_bytes(bytes(2**20))
        os.utime(path, (0, time.time() - 86400 * days))
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(command, [str(part) for part in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_it_lists_and_removes_nothing_unless_told(cache):
    lines = run(cache).output.splitlines()
    assert [line.split()[-1] for line in lines[:2]] == ["extractors/extractors-1", "draws/draws-1"]
    assert lines[2].split()[:4] == ["2.0", "MiB", "in", "2"]
    assert sorted(path.name for path in cache.rglob("*-1")) == ["draws-1", "extractors-1"]


@pytest.mark.parametrize("chosen", [("--kind", "extractors"), ("--older-than", "30")])
def test_it_removes_what_is_chosen(cache, chosen):
    assert "removed 1 entry" in run(cache, *chosen, "--remove").output
    assert [path.name for path in cache.rglob("*-1")] == ["draws-1"]


def test_what_a_run_uses_is_kept(cache):
    folder = cache / "draws" / "draws-2"
    folder.mkdir()
    used = InUse(folder)
    assert "removed 2 entries, kept 1 entry that runs use" in run(cache, "--remove").output
    del used
    assert run(cache, "--remove").output.endswith("removed 1 entry\n")
    assert not folder.exists()


def test_json_has_every_entry(cache):
    found = json.loads(run(cache, "--json").stdout)
    assert [(entry["kind"], entry["bytes"]) for entry in found] == [("extractors", 2**20), ("draws", 2**20)]
    assert all(os.path.exists(entry["path"]) for entry in found)
