"""`hebm info`: what a bug report needs."""

import json
import platform

import torch
from click.testing import CliRunner

import hebm
from hebm.cli.main import main


def test_versions_and_hardware_are_printed_and_are_the_same_for_programs():
    found = json.loads(CliRunner().invoke(main, ["info", "--json"]).stdout)
    assert (found["hebm"], found["torch"]) == (hebm.__version__, torch.__version__)
    assert found["python"] == platform.python_version()
    assert found["memory_gib"] > 0
    assert found["unreadable"] == {}
    lines = dict(line.split("  ", 1) for line in CliRunner().invoke(main, ["info"]).stdout.splitlines())
    assert lines["torch"].strip() == torch.__version__
    assert lines["unreadable"].strip() == "none"
