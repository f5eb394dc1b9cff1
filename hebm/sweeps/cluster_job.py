"""Run a command of hebm as a cluster job that saves before its time limit and resumes when it is requeued.

`submitit` pickles a `ClusterJob` and calls it on a node. When SIGUSR2 announces the end of the job's time, it calls
`checkpoint` and puts the returned job back into the queue.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from hebm.errors import HebmError
from hebm.printable import printable
from hebm.store.durable import reporting
from hebm.store.run_folder import RunFolder
from hebm.sweeps.stages import trained_anyway


@attrs.define(eq=False)
class ClusterJob:
    """A command of hebm that a node of a cluster runs.

    Arguments:
        command: the command line.
        arguments: hebm's arguments, the end of the command line; for the log.
        log: the file for its output; None for the job's own log.
        where: the working directory.
        variables: environment variables to set.
        trains: folder of a run whose backbone other jobs wait for. They may start once it is trained, even if its
            evaluation fails.
    """

    command: tuple[str, ...]
    arguments: tuple[str, ...]
    log: Path | None
    where: Path
    variables: Mapping[str, str]
    trains: Path | None = None
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    def __call__(self) -> None:
        """Run the command to its end. Raises `HebmError` if it fails."""
        status = self._run()
        if status and not (self.trains is not None and trained_anyway(RunFolder(self.trains))):
            raise HebmError(f"hebm {shlex.join(self.arguments)} ended with status {status}; see {self.log}")

    def _run(self) -> int:
        environment = {**os.environ, **self.variables}
        if self.log is None:
            self._process = subprocess.Popen(self.command, cwd=self.where, env=environment)
            return self._process.wait()
        with reporting(f"write {self.log}"):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                log.write(f"$ hebm {printable(shlex.join(self.arguments))}\n".encode())
                log.flush()
                self._process = subprocess.Popen(
                    self.command, cwd=self.where, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
                return self._process.wait()

    def checkpoint(self) -> Any:
        """Let the command save and stop, and return the same job for the queue.

        The command may already have received the cluster's signal, and a second one would kill it, so it gets SIGTERM.
        A signal handler calls this while `Popen.wait` holds its lock, so this method waits without `Popen`.
        """
        from submitit.helpers import DelayedSubmission

        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has ended
                os.kill(process.pid, signal.SIGTERM)
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(attrs.evolve(self))
