"""`hebm sweep`: many runs from one file, one table."""

from __future__ import annotations

from pathlib import Path

import click

from hebm.cli.options import set_option


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@set_option
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs live."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many runs at a time, each on a GPU of its own where there are several.",
)
@click.option("--dry-run", is_flag=True, help="List the runs, what each needs and how long it will take; run nothing.")
def command(file: Path, overrides: tuple[str, ...], runs: Path, jobs: int, dry_run: bool) -> None:
    """Run the sweep FILE: variants of one run, with several seeds; started again, it goes on.

    A sweep file has `base` (the file of a run, next to it), `seeds` and, for each variant, a table [variants.NAME] with
    changes of keys. Each run is a `hebm run` with a folder of its own, RUNS/SWEEP-VARIANT-SEED. Variants take the
    backbone that the base file's run has trained with the same seed, unless they change it. Finished runs are not run
    again, and a run that fails does not stop the others. The end is the table of `hebm compare`, and RUNS/SWEEP.html.
    The exit status is 1 if a run failed.
    """
    from hebm.config.sweep_file import Sweep
    from hebm.sweeps.running import SweepPlan

    found = SweepPlan.of(Sweep.load(file, overrides), runs)
    if dry_run:
        click.echo(found.table(jobs))
        return
    result = found.run(jobs, lambda line: click.echo(line, err=True))
    if result.stopped:
        done = sum(end.state == "finished" for end in result.ended)
        click.echo(f"note: stopped; {done} of {len(result.ended)} runs are finished; start the sweep again", err=True)
        raise click.exceptions.Exit(128 + result.stopped)
    comparison = result.comparison
    if comparison is not None:
        click.echo(str(comparison))
        for line in comparison.differing:
            click.echo(f"note: measured differently: {line}", err=True)
        click.echo(f"written: {found.page}")
    for end in result.failed:
        where = f"\n  log: {end.log}" if end.state == "failed" else ""
        click.echo(f"{end.state}: {end.run.name}: {end.reason}{where}", err=True)
    if result.failed:
        raise click.exceptions.Exit(1)
