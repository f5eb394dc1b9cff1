"""Run several processes of a command on this machine; start, signal and stop them together, and report errors once.

The launcher forwards signals and waits. If a process fails, the others get a few seconds to end before they are
terminated. The launcher's exit status is that of the first process that failed. If the launcher dies, its processes
save and stop.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import click

from hebm.children import handing_on, lifeline, stop_with_parent
from hebm.errors import HebmError

GRACE = 5.0
"""Seconds from a failure to SIGTERM, and from SIGTERM to SIGKILL, for the remaining processes."""


def launched(processes: int) -> bool:
    """Start this command in several processes and wait for them; return True when all have succeeded.

    Returns False if this process should run the command itself.

    Raises `click.exceptions.Exit` with the status of the first process that failed.
    """
    stop_with_parent()
    if processes == 1 or "RANK" in os.environ:
        return False
    status = _run([sys.executable, "-m", "hebm.cli.main", *_without_processes(sys.argv[1:])], processes)
    if status:
        raise click.exceptions.Exit(status)
    return True


def _run(command: list[str], processes: int) -> int:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    # the processes meet at this store; port 0 lets the system choose a free port
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {
        # one thread each by default: processes that share cores slow each other down
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",  # older versions of torch read it
    }
    children: list[subprocess.Popen[bytes]] = []
    with lifeline() as held, handing_on(children):
        for rank in range(processes):
            environment = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank), **held.variables}
            # a new session, so that Ctrl-C reaches them only once, through the launcher
            child = subprocess.Popen(command, env=environment, pass_fds=held.descriptors, start_new_session=True)
            children.append(child)
        return _wait(children)


def _wait(children: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all; return 0, or the exit status of the first that failed (128 + n after signal n)."""
    first, failed_at = 0, 0.0
    while any(child.poll() is None for child in children):
        if not first:
            first, failed_at = _failure(children), time.monotonic()
        elif time.monotonic() > failed_at + GRACE:
            late = time.monotonic() > failed_at + 2 * GRACE
            for child in children:
                (child.kill if late else child.terminate)()
        time.sleep(0.05)
    return first or _failure(children)


def _failure(children: list[subprocess.Popen[bytes]]) -> int:
    """Return 0, or the most informative status: that of a signal, or else the highest.

    A process may exit with 1 only because another one died.
    """
    codes = [child.returncode for child in children if child.returncode]
    if not codes:
        return 0
    return 128 - min(codes) if min(codes) < 0 else max(codes)


def _without_processes(arguments: list[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if skip or argument == "--processes":
            skip = not skip
        elif not argument.startswith("--processes="):
            kept.append(argument)
    return kept


# ---------------------------------------------------------------- reporting errors once


@contextmanager
def one_voice() -> Iterator[None]:
    """Let only the first process with an error report it; the others end silently."""
    try:
        yield
        _part()
    except click.exceptions.Exit:  # a RuntimeError, but a regular end, such as after a signal
        _part()
        raise
    except click.Abort:
        raise
    except (HebmError, RuntimeError) as error:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            raise
        if not _first_to_say():
            raise click.exceptions.Exit(getattr(error, "exit_status", 1)) from None
        if not isinstance(error, HebmError) and _peer_is_lost(error):
            raise HebmError("another process of this run has died; start the run again to continue") from None
        raise


def _part() -> None:
    """Leave the process group, since its threads would abort Python at exit."""
    if "WORLD_SIZE" not in os.environ:
        return
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _first_to_say() -> bool:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=GRACE))
        return store.add("hebm-error", 1) == 1
    except (KeyError, RuntimeError):  # the store is gone: report twice rather than never
        return True


def _peer_is_lost(error: RuntimeError) -> bool:
    from torch.distributed import DistError

    return isinstance(error, DistError) or "Connection closed by peer" in str(error) or "Connection reset" in str(error)
