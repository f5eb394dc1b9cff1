"""`hebm info`: print the facts about machine and installation for a bug report."""

from __future__ import annotations

from typing import Any

import click

from hebm.cli.json_output import json_option, only_json, print_json


@click.command("info")
@json_option
def command(as_json: bool) -> None:
    """Print versions, hardware and installed plugins for a bug report.

    With --json: `hebm`, `torch`, `torchvision`, `accelerate`, `python`, `platform`, `hardware`, `memory_gib` (null if
    the system does not report it), `cache`, `plugins` (versions by distribution) and `unreadable` (causes by unreadable
    distribution).
    """
    with only_json(as_json):
        found = _found()
    if as_json:
        print_json(found)
        return
    rows = [(key, _text(value)) for key, value in found.items()]
    width = max(len(key) for key, _ in rows)
    for key, text in rows:
        click.echo(f"{key:{width}}  {text}")


def _found() -> dict[str, Any]:
    from hebm.config.paths import expanded  # torch is imported only when the command is called
    from hebm.config.settings import CACHE_FOLDER
    from hebm.distributions import installed_distributions
    from hebm.memory import machine_memory
    from hebm.store.provenance import describe_run, versions_of

    readable = installed_distributions()
    plugins = sorted({one.name for one in readable.declaring if one.points} - {"hebm"})
    about = describe_run((), None)
    memory = machine_memory()
    return {
        **{key: about[key] for key in ("hebm", "torch")},
        **versions_of(["torchvision", "accelerate"]),
        **{key: about[key] for key in ("python", "platform", "hardware")},
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "cache": expanded(CACHE_FOLDER),
        "plugins": versions_of(plugins),
        "unreadable": {one.distribution: one.cause for one in readable.unreadable},
    }


def _text(value: Any) -> str:
    """Return a value as text on one line; a table becomes `key value, …`."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in value.items()) or "none"
    return "unknown" if value is None else str(value)
