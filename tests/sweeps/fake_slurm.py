"""The commands of SLURM for tests: a queue of jobs that are written down, and run if they are told to.

`commands(folder)` makes sbatch, srun, squeue, scancel and scontrol in `folder / "bin"`. A job is
`folder / "jobs" / NUMBER.json`: name, state, the `#SBATCH` options of its script, and the script's text.
`run_next(folder)` plays the cluster: it runs the first job whose dependencies allow it.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

NAMES = ("sbatch", "srun", "squeue", "scancel", "scontrol")
WAITING = ("PENDING", "RUNNING")


def commands(folder):
    """Make the commands; returns the folder for PATH."""
    (folder / "bin").mkdir()
    (folder / "jobs").mkdir()
    for name in NAMES:
        path = folder / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {folder / "jobs"} {name} "$@"\n')
        path.chmod(0o755)
    return folder / "bin"


def jobs(folder):
    """All jobs by number, in the order of their submission."""
    files = sorted((folder / "jobs").glob("*.json"), key=lambda path: int(path.stem))
    return {path.stem: json.loads(path.read_text()) for path in files}


def change(folder, number, **entries):
    path = folder / "jobs" / f"{number}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def sbatch(place, script):
    text = Path(script).read_text()
    if "partition=closed" in text:
        sys.exit("sbatch: error: invalid partition specified: closed")
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.MULTILINE)
    options = {name: value.strip("'") for name, value in found}
    number = str(101 + len(list(place.glob("*.json"))))
    entry = {"name": options["job-name"], "state": "PENDING", "options": options, "script": text}
    (place / f"{number}.json").write_text(json.dumps(entry))
    print(f"Submitted batch job {number}")


def squeue(place):
    for number, job in jobs(place.parent).items():
        print(number, job["state"])


def srun(*arguments):
    """Run a command with the output that it asks for."""
    number, rest = os.environ["SLURM_JOB_ID"], list(arguments)
    streams = {}
    while rest[0].startswith("--"):
        option = rest.pop(0)
        if option in ("--output", "--error"):
            streams[option] = open(rest.pop(0).replace("%j", number).replace("%t", "0"), "ab")
    sys.exit(subprocess.run(rest, stdout=streams["--output"], stderr=streams["--error"]).returncode)


def ready(every, job):
    """Whether a job may start; None if it never may."""
    rule, _, numbers = job["options"].get("dependency", "").partition(":")
    states = [every[number]["state"] for number in filter(None, numbers.split(":"))]
    if any(state in WAITING for state in states):
        return False
    return True if rule != "afterok" or all(state == "COMPLETED" for state in states) else None


def run_next(folder):
    """Run the next job to its end and return its name; None if no job can start."""
    every = jobs(folder)
    for number, job in every.items():
        if job["state"] != "PENDING" or ready(every, job) is False:
            continue
        if ready(every, job) is None:
            assert job["options"]["kill-on-invalid-dep"] == "yes"
            change(folder, number, state="CANCELLED")
            return run_next(folder)
        change(folder, number, state="RUNNING")
        script = folder / "jobs" / f"{number}.sh"
        script.write_text(job["script"])
        variables = {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
        status = subprocess.run(["bash", script], env={**os.environ, **variables}, capture_output=True).returncode
        change(folder, number, state="FAILED" if status else "COMPLETED")
        return job["name"]
    return None


if __name__ == "__main__":
    here, command, *rest = sys.argv[1:]
    if command == "sbatch":
        sbatch(Path(here), rest[-1])
    elif command == "squeue":
        squeue(Path(here))
    elif command == "srun":
        srun(*rest)
    elif command == "scancel":
        change(Path(here).parent, rest[-1], state="CANCELLED")
