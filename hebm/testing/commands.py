"""Checks of a command. Every check is called with the click command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import click
from click.testing import CliRunner, Result

from hebm import registry
from hebm.registry import COMMANDS
from hebm.testing.folders import working_folder
from hebm.testing.promises import expect

WRONG = "--no-such-option"

_SCRIPT = """
import importlib, json, sys
module, path = json.loads(sys.argv[1])
found = importlib.import_module(module)
for part in path:
    found = getattr(found, part)
try:
    found.main(["--help"], prog_name="hebm") if path else None
finally:
    print("torch was imported" if "torch" in sys.modules else "", file=sys.stderr)
"""


def _every(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and its sub-commands, each with the words that call it."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            yield from _every(inner, (*words, name)) if inner else ()


def _called(command: click.Command, *arguments: str) -> Result:
    with working_folder():
        return CliRunner().invoke(command, list(arguments), prog_name="hebm")


def check_help(command: click.Command) -> None:
    """Check that the command, its sub-commands and every option have a help text."""
    for words, each in _every(command):
        called = " ".join(words) or "the command"
        expect(bool((each.help or "").strip()), f"a help text of {called}", "none", "write a docstring of the function")
        options = [p for p in each.params if isinstance(p, click.Option) and not p.hidden]
        silent = [option.opts[0] for option in options if not (option.help or "").strip()]
        expect(
            not silent,
            f"a help text of every option of {called}",
            f"none for {', '.join(silent)}",
            'click.option(…, help="…")',
        )


def check_help_option(command: click.Command) -> None:
    """Check that `--help` of the command and its sub-commands shows the usage and exits with 0."""
    for words, _ in _every(command):
        result = _called(command, *words, "--help")
        asked = " ".join((*words, "--help"))
        shown = result.exit_code == 0 and "Usage:" in result.output
        expect(shown, f"{asked} shows the usage and exits with 0", _seen(result), "do not override click's --help")


def check_light_import(command: click.Command) -> None:
    """Check that neither importing the command nor `--help` imports torch, which would slow down completion."""
    module, path = _place(command)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    script = [sys.executable, "-c", _SCRIPT, json.dumps([module, path])]
    run = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    last = run.stderr.strip().splitlines()[-1:] or [""]
    fix = "import modules that need torch, such as hebm.runs and hebm.pipeline, inside the function"
    expect(
        last != ["torch was imported"], f"importing {module} and --help do not import torch", "torch is imported", fix
    )
    expect(run.returncode == 0, f"{module} can be imported in a new process", last[0], "import everything that it uses")


def _place(command: click.Command) -> tuple[str, list[str]]:
    """Return a command's module and the path of attributes to it, which is empty if unknown."""
    for entry in registry.status(COMMANDS):
        for origin in entry.origins:
            if _leads_to(command, origin.module, origin.attr):
                return origin.module, origin.attr.split(".")
    name = getattr(command.callback, "__module__", None) or type(command).__module__
    module: ModuleType | None = sys.modules.get(name)
    found = [attr for attr, value in vars(module).items() if value is command] if module else []
    return name, found[:1]


def _leads_to(command: click.Command, module: str, attr: str) -> bool:
    found: Any = sys.modules.get(module)
    for part in attr.split("."):
        found = getattr(found, part, None)
    return found is command


def check_wrong_arguments(command: click.Command) -> None:
    """Check that an unknown option and missing arguments exit with 2 and a message instead of a traceback."""
    for words, each in _every(command):
        trials = [(*words, WRONG)]
        if any(parameter.required for parameter in each.params):
            trials.append(words)
        for arguments in trials:
            result = _called(command, *arguments)
            told = result.exit_code == 2 and isinstance(result.exception, SystemExit) and bool(result.output.strip())
            asked = " ".join(arguments) or "no arguments"
            fix = "let click parse arguments; raise click.UsageError or click.BadParameter for other checks"
            expect(told, f"exit status 2 and a message for {asked}", _seen(result), fix)


def _seen(result: Result) -> str:
    error = result.exception
    raised = "" if error is None or isinstance(error, SystemExit) else f", {type(error).__name__}: {error}"
    return f"exit status {result.exit_code}{raised}"


def check_name(command: click.Command) -> None:
    """Check that no other command has the same name."""
    entries = registry.status(COMMANDS)
    own = [e for e in entries if any(_leads_to(command, origin.module, origin.attr) for origin in e.origins)]
    taken = [e for e in own if len(e.origins) > 1]
    if not own:
        taken = [entry for entry in entries if entry.name == command.name]
    claims = "; ".join(f"{entry.name!r} is declared by {' and '.join(map(str, entry.origins))}" for entry in taken)
    expect(not taken, "a command name that no other distribution declares", claims, "rename the entry point")
