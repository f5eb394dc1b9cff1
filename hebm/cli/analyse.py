"""`hebm analyse`: run analyses of a trained run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hebm import messages
from hebm.cli.completion import components_of
from hebm.cli.options import allow_option, run_argument, set_option, warner

if TYPE_CHECKING:
    from hebm.analysis.analysis_recipe import AnalysisRecipe
    from hebm.analysis.running import Opened


@click.command()
@run_argument
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=components_of(["hebm_analyses"]))
@set_option
@allow_option
def command(run: Path, names: tuple[str, ...], overrides: tuple[str, ...], allow_changes: bool) -> None:
    """Analyse the trained RUN; `hebm plugins --group analyses` lists the NAMEs.

    Without NAMEs, run all analyses that support this run. Set an option of an analysis by --set ood.data.type=svhn.
    Each analysis writes RUN/analyses/NAME, and report.html shows all of them.
    """
    from hebm.analysis.running import available, choose, opened, split_changes
    from hebm.errors import HebmError
    from hebm.progress import Progress
    from hebm.report.page import write_report
    from hebm.stored_runs import read_run

    of_run, of_analyses = split_changes(overrides)
    found, broken = (choose(names, of_analyses), {}) if names else available(of_analyses)
    for name, cause in broken.items():
        messages.note(f"{name}: {cause}")
    with opened(read_run(run, warn=warner(True)), of_run, allow_changes, Progress(task="analyse")) as whole:
        able = _able(whole, found, asked_for=bool(names))
        failed = [problem for name, recipe in able.items() if (problem := _problem(whole, name, recipe))]
        click.echo(f"report          {write_report(whole.folder)}")
    if failed:
        raise HebmError(f"{len(failed)} of {len(able)} analyses failed: {'; '.join(failed)}")


def _able(run: Opened, recipes: Mapping[str, AnalysisRecipe], asked_for: bool) -> dict[str, AnalysisRecipe]:
    """Return the analyses that support this run. Raises `ConfigError` with all reasons if a named one does not."""
    from hebm.errors import ConfigError

    why = {name: recipe.unsupported(run.evaluation) for name, recipe in recipes.items()}
    reasons = [f"{name}: {reason}" for name, reason in why.items() if reason]
    if asked_for and reasons:
        raise ConfigError("\n".join(reasons))
    for reason in reasons:
        click.echo(f"skipped {reason}")
    return {name: recipe for name, recipe in recipes.items() if not why[name]}


def _problem(run: Opened, name: str, recipe: AnalysisRecipe) -> str | None:
    """Run one analysis; return its error, or None. Other analyses run after an error, too."""
    from hebm.analysis.running import analyse
    from hebm.errors import HebmError

    try:
        analyse(run, name, recipe)
    except HebmError as error:
        click.echo(f"failed  {name}: {error}", err=True)
        return f"{name}: {error}"
    click.echo(f"{name:<14}  {run.folder.analyses / name}")
    return None
