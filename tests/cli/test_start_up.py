"""Commands import what they need: help and listings import neither torch nor a plugin, a check no plotting."""

import json
import subprocess
import sys

SCRIPT = """
import json, sys
from click.testing import CliRunner
from hebm.cli.main import main

HEAVY = {"torch", "numpy", "matplotlib", "jinja2", "sklearn", "scipy", "hebm_plugins"}
found = {}
for line in sys.argv[1:]:
    result = CliRunner().invoke(main, line.split())
    heavy = sorted({name.partition(".")[0] for name in sys.modules} & HEAVY)
    found[line] = [result.exit_code, heavy]
print(json.dumps(found))
"""


def imported(*lines, cwd):
    """What is imported after each of these commands, one after another in one process; and how each ended."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *lines], capture_output=True, text=True, check=True, cwd=cwd)
    return json.loads(done.stdout)


def test_help_and_listings_import_neither_torch_nor_plugins(tmp_path):
    lines = ("--help", "plugins", "run --help", "sweep --help", "init x", "init y --from quickstart", "clean empty")
    assert imported(*lines, cwd=tmp_path) == {line: [0, []] for line in lines}


def test_a_description_imports_the_component_only_if_asked_to(tmp_path):
    found = imported("plugins joint", "plugins mlp --json", "plugins joint --load", cwd=tmp_path)
    assert found["plugins joint"] == found["plugins mlp --json"] == [0, []]
    assert found["plugins joint --load"] == [0, ["hebm_plugins", "numpy", "torch"]]


def test_a_check_of_the_quickstart_imports_neither_plotting_nor_scikit_learn(tmp_path):
    found = imported("init q.toml --from quickstart", "check q.toml", cwd=tmp_path)
    assert found["check q.toml"] == [0, ["hebm_plugins", "numpy", "torch"]]


COLLECTING = """
import gc
from hebm.cli.importing import importing

with importing():
    assert not gc.isenabled()
    import torch
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen > 100_000
with importing():
    assert gc.isenabled()
assert gc.get_freeze_count() == frozen
"""


def test_torch_is_imported_without_collections_and_exempt_from_later_ones():
    subprocess.run([sys.executable, "-c", COLLECTING], check=True)
