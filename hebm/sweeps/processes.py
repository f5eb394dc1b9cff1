"""Start the runs of a sweep as processes, several at a time, and wait for them.

Each run is a separate `hebm run` process, so a failed or killed run does not affect the others. It writes to `run.log`
in its run folder. A run that uses the backbone of another run starts when that run has ended.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs

from hebm import registry
from hebm.children import Lifeline, handing_on, lifeline
from hebm.estimates import duration
from hebm.printable import printable
from hebm.stopping import STOPPING
from hebm.store.durable import reporting
from hebm.sweeps.gpus import VISIBLE, gpu_of, visible_gpus
from hebm.sweeps.planning import PlannedRun
from hebm.sweeps.stages import Stage, trained_anyway

LOG = "run.log"
"""Name of the file in a run folder with the output of the run's process."""

_POLL = 0.1

State = Literal["finished", "failed", "skipped", "stopped", "unfinished"]


@attrs.frozen(eq=False)
class Ended:
    """The end of a run of a sweep.

    Arguments:
        run: the run.
        state: finished; failed; skipped, because the run that trains its backbone failed; stopped by a signal; or
            unfinished, if it was not started.
        reason: why it failed or was skipped; for an unfinished run the last error in its log.
    """

    run: PlannedRun
    state: State
    reason: str = ""

    @property
    def log(self) -> Path:
        """Return the path of the log of its process."""
        return self.run.folder.path / LOG

    @property
    def has_log(self) -> bool:
        """Whether its log shows why it is not finished."""
        return self.state == "failed" or (self.state == "unfinished" and self.log.exists())


@attrs.frozen(eq=False)
class _Started:
    run: PlannedRun
    process: subprocess.Popen[bytes]
    slot: int
    offset: int
    at: float


class Processes:
    """The processes of a sweep.

    Arguments:
        planned: all runs, each after the run that it needs.
        stages: the stage of each run by name.
        jobs: number of simultaneous runs.
        say: called with a line when a run starts or ends.
        hebm: command line of hebm, to which a run's arguments are added.
    """

    def __init__(
        self,
        planned: Sequence[PlannedRun],
        stages: Mapping[str, Stage],
        jobs: int,
        say: Callable[[str], None],
        hebm: Sequence[str] = (sys.executable, "-m", "hebm.cli.main"),
    ) -> None:
        self.hebm = hebm
        self.total, self.jobs, self.say = len(planned), jobs, say
        self.ended = {run.name: Ended(run, "finished") for run in planned if stages[run.name] == "finished"}
        self.trained = {name for name, stage in stages.items() if stage in ("trained", "finished")}
        self.waiting = [run for run in planned if run.name not in self.ended]
        self.running: list[_Started] = []
        self.children: list[subprocess.Popen[bytes]] = []
        self.gpus = visible_gpus()

    def run(self) -> tuple[list[Ended], int]:
        """Run everything to its end. Return the end of each run, and the signal to stop, or 0."""
        if 1 < len(self.gpus) < self.jobs:
            self.say(f"note: {self.jobs} runs at a time share {len(self.gpus)} GPUs")
        with lifeline() as held, handing_on(self.children) as stopped:
            while self.waiting or self.running:
                if stopped():
                    self.ended |= {run.name: Ended(run, "stopped") for run in self.waiting}
                    self.waiting = []
                self._skip()
                self._start(held)
                for started in [started for started in self.running if started.process.poll() is not None]:
                    self._end(started, bool(stopped()))
                if self.running:
                    time.sleep(_POLL)
            return list(self.ended.values()), stopped()

    def _skip(self) -> None:
        """Skip the runs whose backbone will not be trained."""
        for run in list(self.waiting):
            origin = self.ended.get(run.needs or "")
            if origin is not None and origin.run.name not in self.trained:
                self.waiting.remove(run)
                self.ended[run.name] = Ended(run, "skipped", f"it takes the backbone of {origin.run.name}")
                self.say(f"skipped {run.name}: it takes the backbone of {origin.run.name}")

    def _start(self, held: Lifeline) -> None:
        """Start runs while there are free slots."""
        while len(self.running) < self.jobs:
            ready = [run for run in self.waiting if run.needs is None or run.needs in self.trained]
            if not ready:
                return
            self.waiting.remove(ready[0])
            slot = min(set(range(self.jobs)) - {started.slot for started in self.running})
            self.running.append(self._process(ready[0], slot, held))

    def _process(self, run: PlannedRun, slot: int, held: Lifeline) -> _Started:
        path = run.folder.path / LOG
        run.folder.create()
        with reporting(f"write {path}"), path.open("ab") as log:
            log.write(f"$ hebm {printable(shlex.join(run.arguments))}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [*self.hebm, *run.arguments],
                env=self._environment(slot, held),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=held.descriptors,
                start_new_session=True,  # Ctrl-C reaches it through this process alone, once
            )
            self.children.append(process)
            self.say(f"started {run.name} (log: {path})")
            return _Started(run, process, slot, log.tell(), time.monotonic())

    def _environment(self, slot: int, held: Lifeline) -> dict[str, str]:
        found = {**os.environ, **held.variables, registry.BLOCK_VARIABLE: ",".join(registry.blocked())}
        if self.jobs > 1:  # processes that share a machine's cores slow each other down
            found.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.jobs)))
        gpu = gpu_of(slot, self.gpus)
        if gpu is not None:
            found[VISIBLE] = gpu
        return found

    def _end(self, started: _Started, stopping: bool) -> None:
        self.running.remove(started)
        run, status = started.run, started.process.returncode
        if status == 0:
            self.ended[run.name] = Ended(run, "finished")
        elif stopping:
            self.ended[run.name] = Ended(run, "stopped")
        else:
            self.ended[run.name] = Ended(run, "failed", _reason(run.folder.path / LOG, started.offset, status))
        if status == 0 or trained_anyway(run.folder):
            self.trained.add(run.name)
        ended = self.ended[run.name]
        after = duration(time.monotonic() - started.at)
        done = sum(other.state == "finished" for other in self.ended.values())
        why = f": {ended.reason}\n  log: {ended.log}" if ended.reason else ""
        self.say(f"{ended.state} {run.name} after {after} ({done} of {self.total} are finished){why}")


def last_error(log: Path) -> str:
    """Return the error of the last attempt in a log, or ""."""
    if not log.exists():
        return ""
    said = log.read_bytes().decode(errors="replace")
    attempt = "\n" + said[said.rfind("$ hebm ") :]
    return attempt.rpartition("\nerror: ")[2].strip() if "\nerror: " in attempt else ""


def _reason(log: Path, offset: int, status: int) -> str:
    """Return why a process failed: its last error message, or else its last line, or else its exit status."""
    number = -status if status < 0 else status - 128
    if status < 0 or number in STOPPING:
        return f"stopped by {signal.Signals(number).name}"
    said = log.read_bytes()[offset:].decode(errors="replace").strip()
    start = max(said.rfind("\nerror: "), 0 if said.startswith("error: ") else -1)
    found = said[start:].strip().removeprefix("error: ") if start >= 0 else said.rpartition("\n")[2]
    return found or f"exit status {status}"
