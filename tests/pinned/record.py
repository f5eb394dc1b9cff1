"""Record the pinned draws again, in the root of the repository: `PYTHONPATH=tests python -m pinned.record`."""

import time

from .cases import CASES
from .draws import FILE, differences, entries, read, write


def main():
    """Compute all entries, say which of them changed, and write the file."""
    started, found = time.monotonic(), {}
    for case in CASES:
        found |= entries(*case)
    changed = differences(found, read()) if FILE.exists() else []
    write(found)
    print(*changed, sep="\n")
    print(f"{len(found)} entries, {len(changed)} of them changed; {FILE.stat().st_size:,} bytes", end=", ")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
