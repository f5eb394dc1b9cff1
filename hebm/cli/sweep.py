"""`hebm sweep`: run variants of an experiment with several seeds, and compare them in a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hebm import messages
from hebm.cli.against import against_option, end_against, show_against
from hebm.cli.json_output import json_option, only_json, print_json
from hebm.cli.options import ConfigPath, UserPath, set_option
from hebm.errors import ConfigError

if TYPE_CHECKING:
    from hebm.report.measured_rows import Row
    from hebm.sweeps.running import SweepPlan, SweepResult


@click.command()
@click.argument("file", type=ConfigPath())
@set_option
@click.option("--runs", type=UserPath(), default=Path("runs"), show_default=True, help="The folder of runs.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Number of parallel runs on this machine, each on its own GPU if there are several.  [default: 1]",
)
@click.option("--slurm", is_flag=True, help="Submit a job for each run to a SLURM cluster, and exit.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="List the runs with their dependencies and times, estimated from finished runs or a few steps.",
)
@click.option("--table", is_flag=True, help="Show only the table of finished runs.")
@against_option
@json_option
def command(
    file: Path,
    overrides: tuple[str, ...],
    runs: Path,
    jobs: int | None,
    slurm: bool,
    dry_run: bool,
    table: bool,
    against: Path | None,
    as_json: bool,
) -> None:
    """Run the sweep FILE, which has variants of one run and several seeds, or resume it.

    A sweep file has `base` (the file of a run, next to it, or a configuration that comes with hebm, by name), `seeds`
    and, for each variant, a table [variants.NAME] with changes of keys. Each run is a `hebm run` in its own folder,
    RUNS/SWEEP-VARIANT-SEED. Variants use the backbone that the base file's run trained with the same seed, unless they
    change it. Finished runs are not repeated, and a run that fails does not stop the others. At the end, the command
    shows the table of `hebm compare`, and writes RUNS/SWEEP.html and RUNS/SWEEP.measurements for --against. The exit
    status is 1 if a run failed.

    With --slurm, each run is a job. Jobs wait for the job that trains their backbone, and a last job writes the table
    to RUNS/SWEEP.slurm/table. A job near its time limit saves and returns to the queue. Started again, the command
    submits the runs that are neither finished nor queued. The table [slurm] of FILE, or --set slurm.KEY=VALUE, sets the
    resources of a job: partition, account, qos, constraint, nodelist, exclude, gres, cpus_per_task, gpus_per_node,
    mem_gb, timeout_min, signal_delay_s, max_num_timeout, setup (shell commands), options (other options of sbatch).

    With --json: `sweep` and `runs`, each with `name`, `variant`, `seed`, `folder`, `needs` and `state`. With --dry-run,
    each also has `seconds` (null if unknown); with --slurm, `job`; otherwise `reason` and `log`, and the object has
    `comparison` (as `hebm compare -o FILE.json` writes it), `page`, `measurements` and, with --against, `against`.
    """
    _require_one_way(slurm, jobs, dry_run, table)
    from hebm.config.sweep_file import Sweep
    from hebm.report.measured_rows import read_rows
    from hebm.sweeps.running import SweepPlan

    committed = None if against is None else read_rows(against)  # before this sweep writes its own
    plan = SweepPlan.of(Sweep.load(file, overrides), runs)
    if committed is not None:
        plan.require_common(committed)
    if slurm:
        _on_slurm(plan, dry_run, against, committed, as_json)
    elif dry_run:
        _show_plan(plan, jobs or 1, as_json)
    elif table:
        _show(plan.seen(), committed, as_json)
    else:
        with only_json(as_json):
            result = plan.run(jobs or 1, messages.progress)
        _show(result, committed, as_json)


def _require_one_way(slurm: bool, jobs: int | None, dry_run: bool, table: bool) -> None:
    """Raise `ConfigError` for options that exclude each other."""
    if slurm and jobs is not None:
        raise ConfigError(
            "--jobs cannot be combined with --slurm: SLURM decides how many runs go on at a time; leave one out"
        )
    if table and (slurm or dry_run):
        raise ConfigError(f"--table runs nothing; leave out {'--slurm' if slurm else '--dry-run'}")


def _show_plan(plan: SweepPlan, jobs: int, as_json: bool) -> None:
    with only_json(as_json):
        trials = plan.trials(messages.progress)
    for note in trials.notes():
        messages.note(note)
    if not as_json:
        click.echo(plan.table(jobs, trials))
        return
    left = plan.seconds_left(trials)
    runs = [{**run.to_json(), "state": plan.stages[run.name], "seconds": left[run.name]} for run in plan.planned]
    print_json({"sweep": plan.sweep.name, "jobs": jobs, "runs": runs})


# ---------------------------------------------------------------- the result


def _show(result: SweepResult, committed: Sequence[Row] | None, as_json: bool) -> None:
    """Show the table, the written files and the failures; exit with the status of the result."""
    plan, comparison = result.plan, result.comparison
    shown = comparison if not result.stopped else None
    if shown is not None and not as_json:
        click.echo(str(shown))
        click.echo(f"written: {plan.page}")
    for line in result.messages():
        if line.startswith("note: "):
            messages.note(line.removeprefix("note: "))
        else:
            click.echo(line, err=True)
            messages.log_error(line)
    held = None if committed is None or shown is None else shown.against(committed)
    if as_json:
        print_json({**_result(result), "against": None if held is None else [n.to_json() for n in held.numbers]})
    elif held is not None:
        show_against(held)
    if result.stopped:
        raise click.exceptions.Exit(128 + result.stopped)
    if result.failed:
        raise click.exceptions.Exit(1)
    if held is not None:
        end_against(held)


def _result(result: SweepResult) -> dict[str, Any]:
    plan, comparison = result.plan, result.comparison
    runs = [
        {**end.run.to_json(), "state": end.state, "reason": end.reason, "log": str(end.log)} for end in result.ended
    ]
    written = comparison is not None and not result.stopped
    return {
        "sweep": plan.sweep.name,
        "runs": runs,
        "comparison": [] if comparison is None else comparison.to_json(),
        "page": str(plan.page) if written else None,
        "measurements": str(plan.measurements) if written and not result.notes else None,
    }


# ---------------------------------------------------------------- on a cluster


def _on_slurm(
    plan: SweepPlan, dry_run: bool, against: Path | None, committed: Sequence[Row] | None, as_json: bool
) -> None:
    from hebm.sweeps.submission import Submission, queued, submitted

    if dry_run:
        found = Submission(queued(plan), None, None)
    else:
        found = submitted(plan, messages.progress, against)
    if not found.finished and not plan.sweep.slurm.asks_for_gpu:
        messages.note("the jobs request no GPU; set slurm.gpus_per_node = 1 to request one")
    if found.finished and not dry_run:
        _show(plan.seen(), committed, as_json)
    elif as_json:
        runs = [{**one.run.to_json(), "state": one.state, "job": one.job} for one in found.runs]
        log = None if found.log is None else str(found.log)
        print_json({"sweep": plan.sweep.name, "runs": runs, "table_job": found.table, "table_log": log})
    else:
        click.echo(str(found))
