"""`hebm clean`: list and delete cache entries that runs share."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from hebm.cli.json_output import json_option
from hebm.cli.options import UserPath
from hebm.config.settings import CACHE_FOLDER

_DAY = 86400


@click.command()
@click.argument("folder", default=CACHE_FOLDER, type=UserPath())
@click.option("--kind", help="Only entries of this kind, such as draws or extractors.")
@click.option("--older-than", "days", type=click.FloatRange(min=0), help="Only entries that were not written for DAYS.")
@click.option("--remove", is_flag=True, help="Delete the listed entries that no run uses.")
@json_option
def command(folder: Path, kind: str | None, days: float | None, remove: bool, as_json: bool) -> None:
    """List the entries of the cache FOLDER, and delete them with --remove.

    FOLDER is `run.cache_folder`, by default ~/.cache/hebm. Runs compute missing entries again when they need them;
    finished runs do not need them.
    """
    from hebm.store.caches import entries

    oldest = time.time() - _DAY * (days or 0)
    every = entries(folder)
    found = [entry for entry in every if kind in (None, entry.kind) and (days is None or entry.changed < oldest)]
    if as_json:
        plain = [{"kind": e.kind, "path": str(e.path), "bytes": e.size, "changed": e.changed} for e in found]
        click.echo(json.dumps(plain, indent=2))
    else:
        for entry in found:
            age = (time.time() - entry.changed) / _DAY
            click.echo(f"{_size(entry.size):>10}  {age:6.1f} days  {entry.kind}/{entry.path.name}")
        click.echo(f"{_size(sum(entry.size for entry in found)):>10}  in {_entries(len(found))} of {folder}")
    if remove:
        unused = [entry for entry in found if not entry.in_use]
        for entry in unused:
            entry.remove()
        kept = f", kept {_entries(len(found) - len(unused))} that runs use" if len(unused) < len(found) else ""
        click.echo(f"removed {_entries(len(unused))}{kept}", err=as_json)


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
