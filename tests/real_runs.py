"""Tiny real runs: their configurations, the processes they run in, and what it means that two are equal."""

import copy
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import tomli_w
import torch
from torch.distributed import TCPStore

from hebm import locked_runs, pipeline
from hebm.config.experiment import Experiment
from hebm.store.checkpoints import list_checkpoints, load_latest
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import read_run
from hebm.training.run_state import Stopped

OPTIMIZATION = {"ema": 0.9, "schedule": "cosine", "warmup": 2, "clip": 1.0, "learning_rate": 1e-3}
SCHEMES = {
    "two-phase": {"backbone": {**OPTIMIZATION, "steps": 6}, "prior": {**OPTIMIZATION, "steps": 6}},
    "joint": {
        "steps": 12,
        "backbone": OPTIMIZATION,
        "prior": OPTIMIZATION,
        "posterior_sampler": {"type": "langevin", "steps": 3},
    },
    "variational": {"steps": 12, "backbone": OPTIMIZATION, "prior": OPTIMIZATION},
}
TOTAL = 12
"""Steps of a tiny run, whatever the scheme."""
_CACHE = tempfile.TemporaryDirectory()
gc.freeze()  # what is imported by now: each phase ends with a collection, and this is most of its cost
TINY = {
    "name": "tiny",
    "data": {"type": "digits", "batch_size": 128, "flip": True, "binarize": "target"},
    "backbone": {
        "type": "two-layer",
        "z_dims": [3, 5],
        "generator": "mlp",
        "widths": [12],
        "prior_width": 8,
        "inference_width": 8,
    },
    "prior": {
        "type": "joint",
        "energy": {"type": "mlp", "width": 6, "zero_init": False},
        "sampler": {"type": "ula", "steps": 3},
    },
    "train": {"type": "two-phase", **SCHEMES["two-phase"]},
    "evaluate": {"samples": 128, "metrics": []},
    "run": {"device": "cpu", "log_every": 1, "checkpoint_every": 4, "cache_folder": _CACHE.name},
}


def tiny(scheme="two-phase", prior="joint", **tables):
    """The table of a tiny experiment; `tables` are merged into its tables."""
    table = copy.deepcopy(TINY)
    table["train"] = {"type": scheme, **copy.deepcopy(SCHEMES[scheme])}
    if prior == "gaussian":
        table["prior"] = {"type": "gaussian"}
    return merged(table, tables)


def merged(table, other):
    for key, value in other.items():
        table[key] = merged(dict(table.get(key, {})), value) if isinstance(value, dict) else value
    return table


def write_config(folder, table):
    path = folder / "experiment.toml"
    path.write_text(tomli_w.dumps(table))
    return path


# ---------------------------------------------------------------- runs in this process


class Recording:
    """A listener that keeps every event."""

    def __init__(self):
        self.heard = []

    def __getattr__(self, event):
        return lambda *arguments: self.heard.append((event, arguments))


def train(table, folder, stop_after=None, listener=None, allow=False, extend=None):
    """Train as `hebm run` does; stop after that number of steps if given. Return whether it came to its end."""
    experiment = Experiment.from_table(copy.deepcopy(table))
    accelerator = pipeline.make_accelerator(experiment.run)
    assembly = pipeline.assemble(experiment)
    asked = iter(range(1, 10**9))
    stop = (lambda: 0) if stop_after is None else (lambda: signal.SIGTERM if next(asked) >= stop_after else 0)
    run = RunFolder(Path(folder))
    with locked_runs.locked_for_training(run, assembly, accelerator, allow, extend) as (run_id, _):
        try:
            pipeline.train(assembly, run, run_id, accelerator, listener or Recording(), stop)
        except Stopped:
            return False
    return True


def train_and_record(argument):
    """For a process of several: train, and write the data indices of every step to a file of this rank."""
    from hebm.training.phase_run import PhaseRun

    table, folder = argument["table"], Path(argument["folder"])
    steps, step = [], PhaseRun._step

    def recording(self, parts):
        steps.append([part.index.tolist() for part in parts])
        return step(self, parts)

    PhaseRun._step = recording
    train(table, folder)
    rank = os.environ.get("RANK", "0")
    (folder / f"indices-{rank}.json").write_text(json.dumps(steps))


def cli_with_tensorboard(arguments):
    """For a process of its own: hebm where accelerate finds tensorboard installed."""
    import fork_server
    from accelerate import tracking

    tracking._available_trackers.append(tracking.LoggerType.TENSORBOARD)
    fork_server.cli(arguments)


# ---------------------------------------------------------------- what a run left


def log(folder):
    """The lines of metrics.jsonl without the one figure that no two runs share."""
    path = Path(folder) / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [{k: v for k, v in json.loads(line).items() if k != "steps_per_second"} for line in lines]


def newest(folder):
    return load_latest(Path(folder) / "checkpoints", None, lambda _: None)


def steps_saved(folder):
    """Total steps of the checkpoints that are there."""
    return [int(path.name.split("-")[1]) for path in list_checkpoints(Path(folder) / "checkpoints")]


def differences(one, other, samples=70):
    """What differs between two runs, bit for bit: log, weights, averages, moments, state, samples."""
    found = [f"log {a} {b}" for a, b in zip(log(one), log(other), strict=False) if a != b]
    found += [] if len(log(one)) == len(log(other)) else ["length of the log"]
    a, b = newest(one), newest(other)
    found += [key for key in ("phase", "step", "total_step") if getattr(a, key) != getattr(b, key)]
    found += ["state"] if {**a.state, "seconds": 0} != {**b.state, "seconds": 0} else []
    found += [f"{stem}/{name}" for stem, name, x, y in pairs(a, b) if not torch.equal(x, y)]
    if samples and not torch.equal(*(model_of(folder).sample(samples) for folder in (one, other))):
        found.append("samples")
    return found


def model_of(folder):
    """The model of a run, finished or not, with its newest weights."""
    return read_run(folder, allow_unfinished=True).build_model()


def pairs(a, b):
    """(file, name, tensor, tensor) of two checkpoints, which must have the same names."""
    assert {stem: set(tensors) for stem, tensors in a.tensors.items()} == {s: set(t) for s, t in b.tensors.items()}
    for stem, tensors in a.tensors.items():
        for name, tensor in tensors.items():
            yield stem, name, tensor, b.tensors[stem][name]


def distance(one, other):
    """The greatest difference between any two weights, averages or moments."""
    return max(float((x.double() - y.double()).abs().max()) for *_, x, y in pairs(newest(one), newest(other)))


# ---------------------------------------------------------------- runs in processes of their own


class Running:
    """A process that was started; `end()` waits for it."""

    def __init__(self, pid, out):
        self.pid, self.out = pid, out

    @property
    def status(self):
        path = self.out / "status"
        return int(path.read_text()) if path.exists() else None

    @property
    def stdout(self):
        return self._said("stdout")

    @property
    def stderr(self):
        return self._said("stderr")

    def _said(self, where):
        path = self.out / where
        return path.read_text() if path.exists() else ""

    def send(self, number):
        with suppress(ProcessLookupError):  # it may have ended by itself just now
            os.kill(self.pid, number)

    def end(self, seconds=60):
        """Its exit status (−n if signal n ended it)."""
        wait_for(lambda: self.status is not None, seconds, self)
        return self.status


class Zygote:
    """Starts processes of hebm; see fork_server.py."""

    def __init__(self):
        here = Path(__file__).parent
        environ = {**os.environ, "PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}
        self.folder = tempfile.TemporaryDirectory(prefix="hebm-test-")
        command = [sys.executable, str(here / "fork_server.py")]
        self.said = Path(self.folder.name) / "fork_server"
        with open(self.said, "wb") as said:
            self.server = subprocess.Popen(
                command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
            )

    def start(self, call, argument, path=(), **environ):
        out = Path(tempfile.mkdtemp(dir=self.folder.name))
        request = {"call": call, "argument": argument, "environ": environ, "path": list(path), "out": str(out)}
        request["cwd"] = os.getcwd()
        try:
            self.server.stdin.write(json.dumps(request).encode() + b"\n")
            self.server.stdin.flush()
        except BrokenPipeError:
            ended = self.server.wait()
            raise AssertionError(f"the fork_server ended with {ended}: {self.said.read_text()}") from None
        return Running(int(self.server.stdout.readline()), out)

    def hebm(self, *arguments, path=(), **environ):
        """Start a command of hebm."""
        return self.start(
            "fork_server:cli", [str(argument) for argument in arguments], [str(p) for p in path], **environ
        )

    def world(self, call, argument, path=(), processes=2):
        """Start a function in each process of a world, as a launcher would."""
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.store.port), "WORLD_SIZE": str(processes)}
        common |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        ranks = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
        return [self.start(call, argument, map(str, path), **environ) for environ in ranks]


def wait_for(condition, seconds, process=None):
    """Poll until a condition holds; show what a process said if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain" + (process.stdout + process.stderr if process else ""))
        time.sleep(0.005)


def lines_logged(folder):
    path = Path(folder) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(folder, count, process):
    """Wait until metrics.jsonl has this number of lines; a process that ends earlier has failed."""

    def reached():
        assert process.status is None, f"ended with {process.status}: {process.stdout}{process.stderr}"
        return lines_logged(folder) >= count

    wait_for(reached, 60, process)


def in_two_processes(table, folder):
    """Train in a world of two."""
    argument = {"table": table, "folder": str(folder)}
    processes = fork_server().world("real_runs:train_and_record", argument)
    assert [process.end() for process in processes] == [0, 0], "".join(process.stderr for process in processes)


_ZYGOTE = []


def fork_server():
    """Return the fork server of this test process; the first call starts it."""
    if not _ZYGOTE:
        _ZYGOTE.append(Zygote())
    return _ZYGOTE[0]


def hebm(*arguments, **options):
    """Run a command of hebm to its end."""
    process = fork_server().hebm(*arguments, **options)
    process.end()
    return process


def install(folder, group, name, target, source):
    """A distribution with one plugin: a .dist-info next to its module. Returns the folder, for the path."""
    info = folder / f"d_{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: d-{name}\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    folder.joinpath(f"{target.partition(':')[0]}.py").write_text(source)
    return folder
