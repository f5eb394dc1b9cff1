"""Write `failures.log` in a run folder: the tracebacks of the metrics that failed in the latest evaluation."""

from __future__ import annotations

import shlex

from hebm.errors import HebmError
from hebm.evaluation.metrics_file import Results
from hebm.printable import LINES, printable
from hebm.store.durable import replace_file, reporting
from hebm.store.run_folder import RunFolder


def retry(folder: RunFolder, unfinished: str, name: str | None = None) -> str:
    """Return the command that measures a run again.

    Arguments:
        folder: the run folder.
        unfinished: the place that an unfinished training has reached, or "".
        name: the evaluation's name, if it has one.
    """
    named = "" if name is None else f" --name {shlex.quote(name)}"
    return f"hebm evaluate {shlex.quote(str(folder.path))}{' --allow-unfinished' if unfinished else ''}{named}"


def log_failures(folder: RunFolder, results: Results, name: str | None = None) -> None:
    """Write the tracebacks of the metrics that failed, or remove those of an earlier evaluation.

    Arguments:
        folder: the run folder.
        results: the results with their failures.
        name: the evaluation's name, if it has one. A named evaluation does not remove an earlier log.

    Raises `HebmError` if every metric failed and the run has earlier measurements, which are kept.
    """
    log = folder.failures_log
    texts = [f"{failed.metric}: {failed.reason}\n\n{failed.traceback}" for failed in results.failures]
    with reporting(f"write {log}"):
        if texts:
            replace_file(log, printable("\n\n".join(texts), LINES).encode())
        elif name is None:
            log.unlink(missing_ok=True)
    if texts and folder.metrics.exists() and all(found.detail for found in results.measurements):
        reasons = "\n".join(f"{failed.metric}: {failed.reason}" for failed in results.failures)
        raise HebmError(f"every metric failed; the earlier measurements are kept (see {log})\n{reasons}")
