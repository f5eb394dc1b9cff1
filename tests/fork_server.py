"""A process that has imported everything and forks: real processes of hebm without seconds of imports each.

It reads requests as JSON lines from its standard input: `call` ("module:function"), `argument`, `environ`, `path`
(entries for sys.path), `cwd`, `out` (a folder). The child's pid goes to the answer; its output and exit status go to
files in `out`. It must never compute anything itself: threads do not survive a fork.
"""

import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path

PRELOADED = (
    "torch",
    "accelerate",
    "accelerate.tracking",
    "torchvision",
    "sklearn.datasets",
    "sklearn.metrics",
    "hebm.cli.run",
    "hebm.cli.sample",
    "hebm.cli.evaluate",
    "hebm.pipeline",
    "hebm.report.page",
    "hebm.report.plots",
    "hebm_plugins.two_layer.recipe",
    "hebm_plugins.priors.joint",
    "hebm_plugins.samplers.mala",
    "hebm_plugins.datasets.digits",
    "hebm_plugins.metrics.gap",
    "real_runs",
)


def cli(argument):
    """The command line of hebm."""
    from hebm.cli.main import main

    sys.argv = ["hebm", *argument]
    main(prog_name="hebm")


def child(request):
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if the tests run under nohup
    out = Path(request["out"])
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(out / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.update(request["environ"])
    os.chdir(request["cwd"])
    sys.path[:0] = request["path"]
    code = 0
    try:
        module, _, function = request["call"].partition(":")
        getattr(importlib.import_module(module), function)(request["argument"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def reap(running):
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            out = running.pop(pid)
            out.joinpath("status.part").write_text(str(os.waitstatus_to_exitcode(status)))
            os.rename(out / "status.part", out / "status")


def serve():
    running = {}
    while True:
        ready, _, _ = select.select([0], [], [], 0.01)
        if ready:
            line = sys.stdin.buffer.raw.readline()
            if not line:
                return
            request = json.loads(line)
            pid = os.fork()
            if pid == 0:
                child(request)
            running[pid] = Path(request["out"])
            print(pid, flush=True)
        reap(running)


if __name__ == "__main__":
    sys.modules["fork_server"] = sys.modules["__main__"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    serve()
