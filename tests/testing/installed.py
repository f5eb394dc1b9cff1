"""Install a distribution of this repository by pip, as its users do, and run commands with it."""

import importlib.util
import os
import shutil
import subprocess
import sys


def python(*arguments, cwd, site=None):
    """Run this interpreter; `site` is a folder of installed distributions to put on its path."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )


def copied(distribution, folder):
    """Copy a distribution as someone who downloads it."""
    ignored = shutil.ignore_patterns("__pycache__", "dist", "build", "runs", ".*")
    return shutil.copytree(distribution, folder / "copy", ignore=ignored)


def installed(copy, folder):
    """Install the wheel of a distribution into `folder`, without its dependencies, and remove its sources."""
    offline = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    built = python("-m", "pip", "wheel", "--quiet", "--no-deps", *offline, "-w", folder / "wheels", copy, cwd=copy)
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "wheels").glob("*.whl")
    done = python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel, cwd=copy)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(copy / "src")
    return folder
