"""Memory: errors that explain "out of memory", the limits and the peak of the process, and reuse of freed memory."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hebm.errors import ConfigError, HebmError

_HAS_RESOURCE = importlib.util.find_spec("resource") is not None
"""Windows does not have this module."""

_ALLOCATORS = (
    "DefaultCPUAllocator",
    "unable to allocate",
    "can't allocate memory",
    "Storage size calculation overflow",
)


_MEMINFO = Path("/proc/meminfo")
"""The memory of the machine, on Linux."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = (-1, 256 * 2**20), (-3, 32 * 2**20)
"""Parameters of glibc's `mallopt` with their values in bytes."""
_OWN_SETTINGS = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


class OutOfMemory(ConfigError):
    """A computation needs more memory than is available."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory cannot be allocated, on a CPU or a GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(name in str(error) for name in _ALLOCATORS)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def explaining_memory(doing: str, fix: str) -> Iterator[None]:
    """Raise `OutOfMemory` with an explanation if the code in the context runs out of memory.

    Arguments:
        doing: completes "out of memory while …".
        fix: the advice, such as "use a smaller data.batch_size than 64".
    """
    try:
        yield
    except HebmError:
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory while {doing} ({first_line(error)}); {fix}") from error


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc keep up to 256 MiB of freed memory for the tensors of the next step.

    By default glibc returns most of what a step freed to the system, and the next step faults it in again. Nothing
    changes with other C libraries, or where the environment sets glibc's allocator.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _OWN_SETTINGS):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(parameter, value)


def machine_memory() -> int | None:
    """Return the memory limit of this process in bytes; None if the system does not report it."""
    found = [limit for limit in (_physical(), _of_the_process(), _of_the_container()) if limit is not None]
    return min(found, default=None)


def available_memory() -> int | None:
    """Return the bytes that this process can still allocate, as far as the system reports it; None if it does not.

    Linux reports the memory and swap space that other processes leave; other systems report only the limit.
    """
    found = [limit for limit in (machine_memory(), _left_by_others()) if limit is not None]
    return min(found, default=None)


def _left_by_others() -> int | None:
    """Return the bytes that Linux can give to processes before it kills one."""
    try:
        text = _MEMINFO.read_text() if _MEMINFO.is_file() else ""
    except OSError:  # no permission to read it
        return None
    found = dict(re.findall(r"^(MemAvailable|SwapFree): +(\d+) kB$", text, re.MULTILINE))
    return sum(map(int, found.values())) * 1024 if "MemAvailable" in found else None


def _physical() -> int | None:
    names = getattr(os, "sysconf_names", {})
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else None


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes; None if the system does not report it."""
    if not _HAS_RESOURCE:
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _of_the_process() -> int | None:
    """Return the limit set by `ulimit -v`, in bytes."""
    if not _HAS_RESOURCE:
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _of_the_container() -> int | None:
    """Return the limit of this control group, such as a container, in bytes."""
    file = Path("/sys/fs/cgroup/memory.max")
    try:
        text = file.read_text().strip() if file.is_file() else "max"
    except OSError:  # no permission to read it
        return None
    return int(text) if text.isdecimal() else None
