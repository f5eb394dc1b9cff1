"""`hebm verify`: check the files of a run folder against their checksums."""

from __future__ import annotations

from pathlib import Path

import click

from hebm.cli.options import run_argument


@click.command()
@run_argument
@click.option("--accept", is_flag=True, help="Accept the current config.toml, manifest.json and metrics.json.")
def command(run: Path, accept: bool) -> None:
    """Check the configuration, manifest, measurements and checkpoints of RUN against their checksums.

    `sha256sum -c SHA256SUMS` in the folder checks the same files except the checkpoints.
    """
    from hebm.errors import CheckpointError
    from hebm.store.checkpoints import list_checkpoints, verify
    from hebm.store.durable import reporting
    from hebm.store.lock import RunLock
    from hebm.store.run_folder import RunFolder
    from hebm.store.sums import evaluation_file
    from hebm.stored_runs import read_run

    if accept:
        with RunLock(run):
            for name in RunFolder(run).accept():
                click.echo(f"accepted  {name}")
    opened = read_run(run)
    names = ["config.toml", "manifest.json", *(["metrics.json"] if opened.results is not None else [])]
    click.echo(f"good      {', '.join([*names, *map(evaluation_file, opened.evaluations)])}")
    with reporting(f"read {opened.folder.checkpoints}"):
        paths = list_checkpoints(opened.folder.checkpoints)
    damaged = 0
    for path in paths:
        complaints = verify(path, opened.run_id)
        damaged += bool(complaints)
        click.echo(f"{'damaged' if complaints else 'good':<8}  {path.name}" + "".join(f"\n  {c}" for c in complaints))
    if damaged:
        raise CheckpointError(f"{run}: {damaged} of {len(paths)} checkpoints are damaged; put back good copies")
