"""hebm needs no module that only POSIX systems have: Windows and macOS."""

import importlib.util
import os
import pkgutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

import hebm
import hebm_plugins

HERE = Path(__file__).parent
QUICKSTART = HERE.parent / "benchmarks" / "quickstart.toml"
SHORT = [
    f"--set|{key}={value}"
    for key, value in {
        "prior.sampler.steps": 2,
        "train.backbone.steps": 2,
        "train.prior.steps": 2,
        "evaluate.samples": 64,
        "evaluate.metrics": "[]",
        "run.cache_folder": "cache",
    }.items()
]


def test_every_module_is_imported_and_the_first_steps_of_the_quickstart_run_without_posix_only_modules(tmp_path):
    commands = [
        "|".join(["check", str(QUICKSTART), *SHORT]),
        "|".join(["run", str(QUICKSTART), *SHORT, "--quiet"]),
        "sample|runs/quickstart|-n|8|-o|samples.npz",
    ]
    script = [sys.executable, str(HERE / "without_posix.py"), *commands]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    packages = [pkgutil.walk_packages(package.__path__, f"{package.__name__}.") for package in (hebm, hebm_plugins)]
    names = [found.name for package in packages for found in package]
    assert len(names) > 200
    assert [line for line in done.stdout.splitlines() if "imported" in line] == [f"imported {name}" for name in names]
    assert "ready: start it with" in done.stdout
    assert "still missing: True" in done.stdout
    assert (tmp_path / "runs" / "quickstart" / "metrics.json").exists()
    assert (tmp_path / "samples.npz").exists()


# ---------------------------------------------------------------- locks of other systems


def locked_byte(handle, mode, n):
    """What `msvcrt.locking` does: it locks n bytes from where the file is, or raises an `OSError`."""
    os.lockf(handle, os.F_TLOCK, n)


@pytest.mark.parametrize("msvcrt", [None, types.SimpleNamespace(locking=locked_byte, LK_NBLCK=2)])
def test_a_lock_without_fcntl_keeps_out_another_process_until_its_holder_is_gone(tmp_path, monkeypatch, msvcrt):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    if msvcrt is not None:
        msvcrt.__spec__ = importlib.util.spec_from_loader("msvcrt", None)
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    spec = importlib.util.find_spec("hebm.store.file_locks")
    locks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(locks)
    path = tmp_path / "lock"
    path.write_text("who holds it")
    ready, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open(path, "r+b") as file:
            locks.try_lock(file.fileno())
            os.write(say, b".")
            signal.pause()
    os.read(ready, 1)
    assert not locks.free(path)
    assert path.read_text() == "who holds it"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert locks.free(path)
