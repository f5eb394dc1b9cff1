"""The core names its default components in one file, and no other plugin anywhere."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hebm
from hebm import defaults
from hebm.defaults import Default

CORE = Path(hebm.__file__).parent
DEFAULTS = [value for value in vars(defaults).values() if isinstance(value, Default)] + [
    *defaults.METRICS,
    *defaults.EXTRACTORS,
]

# the same word, but not the plugin
HOMONYMS = {
    ("testing/subjects.py", "context"),  # the name of some noise
    ("testing/reference_priors.py", "context"),  # likewise
    ("testing/prior_contexts.py", "context"),  # likewise
    ("training/kept_latents.py", "context"),  # the name of a column
}
# the keys of metrics.json are also called so
KEYS_OF_RESULTS = {"report", "measurements.py"}


def plugin_names():
    """Group and name of what hebm_plugins registers, but for names that the core registers too (the scheme `joint`)."""
    text = (CORE.parent / "pyproject.toml").read_text(encoding="utf-8")
    groups = tomllib.loads(text)["project"]["entry-points"]
    points = [(group, name, path) for group, names in groups.items() for name, path in names.items()]
    core = {name for _, name, path in points if not path.startswith("hebm_plugins")}
    return {(group, name) for group, name, _ in points if name not in core}


def texts(source):
    """Every string of a module's code, with its line: no docstrings, no comments."""
    tree = ast.parse(source)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def named(source, names):
    """(line, name) of each name that is a whole string, or stands in quotes inside one."""
    for line, text in texts(source):
        quoted = set(re.findall(r"[\"'`]([a-z0-9-]+)[\"'`]", text)) | {text}
        yield from ((line, name) for name in sorted(quoted & names))


def test_no_other_file_of_the_core_names_a_plugin():
    plugins = plugin_names()
    found = []
    for path in CORE.rglob("*.py"):
        place = path.relative_to(CORE).as_posix()
        results = any(place.startswith(part) for part in KEYS_OF_RESULTS)
        names = {name for group, name in plugins if not (results and group == "hebm_metrics")}
        found += [(place, line, name) for line, name in named(path.read_text(encoding="utf-8"), names)]
    others = [one for one in found if one[0] != "defaults.py" and (one[0], one[2]) not in HOMONYMS]
    assert others == []
    assert {place for place, _, _ in found} >= {"defaults.py"}


def test_the_search_would_find_a_name_in_code_and_in_a_message_but_not_in_prose():
    names = {"langevin", "inception"}
    assert list(named('find("hebm_samplers", "langevin")', names)) == [(1, "langevin")]
    assert list(named("""f'use extractor = "inception", {x}'""", names)) == [(1, "inception")]
    assert list(named('"""Like `langevin`."""\nx = "underdamped langevin steps"', names)) == []


@pytest.mark.parametrize("default", DEFAULTS, ids=lambda default: default.name)
def test_every_default_is_registered_and_can_be_made(default):
    made = default()
    assert all(getattr(made, key) == value for key, value in default.keys.items())


def test_importing_the_core_imports_no_plugin():
    modules = "hebm.defaults, hebm.config.experiment, hebm.training.joint, hebm.evaluation.evaluation, hebm.pipeline"
    script = f"import sys, {modules}; sys.exit('hebm_plugins' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
