"""R1, R16: SHA256SUMS covers the three files; a kill between any two file operations does not look like damage."""

import json
import os
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

from hebm.errors import CheckpointError
from hebm.store import durable, sums
from hebm.store.run_folder import RunFolder

OLD = {"config.toml": b"seed = 0\n", "manifest.json": b'{"a": 1}\n', "metrics.json": b'{"fd": 1}\n'}
NEW = {"metrics.json": None, "config.toml": b"seed = 1\n", "manifest.json": b'{"a": 2}\n'}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    sums.write(path, OLD)
    return path


def checked(folder):
    """Return the exit status and output of `sha256sum -c`."""
    return subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False)


def test_sha256sum_checks_what_hebm_checks(folder):
    assert checked(folder).stdout == "config.toml: OK\nmanifest.json: OK\nmetrics.json: OK\n"
    sums.write(folder, NEW)
    assert checked(folder).stdout == "config.toml: OK\nmanifest.json: OK\n"
    assert sums.read(folder) == {name: data for name, data in NEW.items() if data is not None}
    (folder / "config.toml").write_bytes(b"seed = 2\n")
    assert checked(folder).returncode == 1
    with pytest.raises(CheckpointError, match=r"config\.toml"):
        sums.read(folder)


def test_named_evaluations_are_covered_may_be_removed_and_leave_with_a_change_that_removes_them(folder):
    file = sums.evaluation_file("k100")
    sums.write(folder, {file: b'{"fd": 2}\n'})
    assert checked(folder).stdout.splitlines()[-1] == "evaluations/k100.json: OK"
    assert sums.evaluation_names(sums.read(folder)) == {"k100": file}
    (folder / file).write_bytes(b'{"fd": 1}\n')
    with pytest.raises(CheckpointError, match=r"k100\.json was changed or damaged.*run `hebm evaluate` again"):
        sums.read(folder)
    (folder / file).unlink()
    assert sums.read(folder) == OLD
    sums.write(folder, {file: b"{}"})
    sums.write(folder, {file: None})
    assert sums.read(folder) == OLD
    assert checked(folder).returncode == 0


@pytest.mark.parametrize("name", ["metrics.json", "evaluations/k100.json"])
def test_a_link_that_leads_nowhere_is_named_and_not_taken_for_a_removed_file(folder, name):
    sums.write(folder, {sums.evaluation_file("k100"): b'{"fd": 2}\n'})
    (folder / name).unlink()
    (folder / name).symlink_to("nowhere")
    with pytest.raises(CheckpointError, match=f"cannot read .*{name}"):
        sums.read(folder)


def test_a_file_that_hebm_did_not_write_among_named_evaluations_is_named(folder):
    (folder / sums.EVALUATIONS).mkdir()
    (folder / sums.EVALUATIONS / "own.json").write_bytes(b"{}")
    assert sums.changed(folder) == ["evaluations/own.json"]


@pytest.mark.parametrize("name", sums.COVERED)
def test_any_one_bit_is_named_with_the_way_on(folder, name):
    whole = (folder / name).read_bytes()
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        (folder / name).write_bytes(data)
        assert sums.changed(folder) == [name]
    with pytest.raises(CheckpointError) as caught:
        sums.read(folder)
    assert f"{folder / name} was changed or damaged since hebm wrote it" in str(caught.value)
    assert f"hebm verify {folder} --accept" in str(caught.value)


def test_all_that_changed_is_named_at_once(folder):
    for name in sums.COVERED:
        (folder / name).write_bytes(b"{}")
    assert sums.changed(folder) == list(sums.COVERED)


def test_a_bit_of_the_sums_themselves_is_not_passed_over(folder):
    whole = (folder / "SHA256SUMS").read_bytes()
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        (folder / "SHA256SUMS").write_bytes(data)
        assert sums.changed(folder) != []


def test_metrics_may_be_removed_and_the_others_may_not(folder):
    (folder / "metrics.json").unlink()
    assert "metrics.json" not in sums.read(folder)
    (folder / "config.toml").unlink()
    with pytest.raises(CheckpointError, match=r"config\.toml is missing"):
        sums.read(folder)


def test_a_file_that_hebm_did_not_write_is_named(tmp_path):
    sums.write(tmp_path, {name: OLD[name] for name in ("config.toml", "manifest.json")})
    (tmp_path / "metrics.json").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=r"metrics\.json was changed"):
        sums.read(tmp_path)


def test_a_reader_without_the_lock_sees_no_damage_while_a_writer_writes(folder, monkeypatch):
    contents, looks = sums._contents, iter(range(10))

    def written_meanwhile(path):
        if next(looks) == 0:
            sums.write(path, {"metrics.json": b"{}"})
        return contents(path)

    monkeypatch.setattr(sums, "_contents", written_meanwhile)
    assert sums.read(folder)["metrics.json"] == b"{}"


# ---------------------------------------------------------------- kills


class Killed(BaseException):
    """Ends a process as kill -9 does: nothing tidies up."""


def killed_at(monkeypatch, moment):
    """From here on, the file operation of this number does not happen; a write stops in the middle."""
    operations = count()

    def dying(call, partly=None):
        def operation(*arguments, **options):
            if next(operations) == moment:
                if partly:
                    partly(*arguments)
                raise Killed
            return call(*arguments, **options)

        return operation

    def half(path, parts, sync):
        data = b"".join(parts)
        path.write_bytes(data[: len(data) // 2])

    monkeypatch.setattr(durable, "write_parts", dying(durable.write_parts, half))
    monkeypatch.setattr(os, "replace", dying(os.replace))
    monkeypatch.setattr(Path, "unlink", dying(Path.unlink))


def every_kill(tmp_path, folder, act):
    """Copies of a folder in which `act` was killed between every pair of file operations, and the number of these."""
    for moment in count():
        copy = shutil.copytree(folder, tmp_path / str(moment))
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, moment)
            try:
                act(copy)
                return
            except Killed:
                pass
        yield copy


def test_killed_between_any_two_operations_each_file_has_its_old_or_new_content(tmp_path, folder):
    seen = set()
    for copy in every_kill(tmp_path, folder, lambda path: sums.write(path, NEW)):
        found = sums.read(copy)
        assert all(found.get(name) in (OLD[name], NEW[name]) for name in OLD)
        seen.add(tuple(found.get(name) == NEW[name] for name in OLD))
        sums.write(copy, {"manifest.json": b"{}"})
        assert checked(copy).returncode == 0
        assert not (copy / sums.PENDING).exists()
    assert len(seen) == 4, "no kill hit between two files: the test proves nothing"


def test_killed_while_it_goes_on_after_a_kill_it_is_still_not_damaged(tmp_path, folder):
    def again(path):
        sums.write(path, {"manifest.json": b'{"a": 3}\n'})

    hit = 0
    for copy in every_kill(tmp_path, folder, lambda path: sums.write(path, NEW)):
        for twice in every_kill(tmp_path / f"{copy.name}-again", copy, again):
            assert sums.read(twice)
            hit += 1
    assert hit > 40


CONFIG, MANIFEST = 'name = "x"\nseed = 0\n', {"plugins": {}, "data": "abc", "torch": "2.5"}


def test_a_start_that_was_killed_is_started_again_and_is_never_taken_for_a_run(tmp_path):
    (tmp_path / "empty").mkdir()
    for copy in every_kill(tmp_path, tmp_path / "empty", lambda path: RunFolder(path).create_or_open(CONFIG, MANIFEST)):
        if not (copy / "SHA256SUMS").exists():
            with pytest.raises(CheckpointError, match=r"not (started completely|a run folder)"):
                RunFolder(copy).read()
        RunFolder(copy).create_or_open(CONFIG, MANIFEST)
        assert checked(copy).returncode == 0


def test_a_change_of_configuration_that_was_killed_never_leaves_figures_of_other_settings(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create_or_open(CONFIG, MANIFEST)
    folder.write_metrics({"n": 1})
    other = CONFIG + "[evaluate]\nsamples = 2\n"
    for copy in every_kill(
        tmp_path, folder.path, lambda path: RunFolder(path).create_or_open(other, {**MANIFEST, "torch": "2.6"})
    ):
        found = RunFolder(copy).read()
        assert found.config == CONFIG or found.metrics is None
        manifest = RunFolder(copy).create_or_open(other, {**MANIFEST, "torch": "2.6"})
        assert manifest["history"] == [["torch: '2.5' → '2.6'"]]
        assert checked(copy).returncode == 0


def test_metrics_that_were_being_written_are_the_old_or_the_new_ones(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create_or_open(CONFIG, MANIFEST)
    folder.write_metrics({"n": 1})
    found = [
        json.dumps(RunFolder(copy).read().metrics)
        for copy in every_kill(tmp_path, folder.path, lambda path: RunFolder(path).write_metrics({"n": 2}))
    ]
    assert set(found) == {'{"n": 1}', '{"n": 2}'}
