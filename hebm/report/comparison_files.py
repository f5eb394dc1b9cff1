"""Write a comparison of runs in the format of the path's ending, such as `.html`, `.csv` or `.tex`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hebm.errors import ConfigError
from hebm.evaluation.kinds import PRIOR
from hebm.report.comparison import FACTS, Run, columns, differing_conditions, exact_table
from hebm.report.comparison_picture import picture
from hebm.report.comparison_table import LEGEND, table, variant_table
from hebm.report.comparison_text import as_csv, as_json, as_markdown, as_tex
from hebm.report.measured_rows import ENDING, write_rows
from hebm.report.metric_table import conditions
from hebm.report.page import rendered
from hebm.report.panels import data_address, to_png
from hebm.report.variants import in_order
from hebm.store.durable import replace_file, reporting


def as_page(runs: Sequence[Run], baseline: str | None = None) -> str:
    """Return a self-contained page with table, differences and picture."""
    chosen = columns(runs)
    return rendered(
        "comparison.html.jinja",
        {
            "table": table(runs, chosen, baseline),
            "legend": LEGEND,
            "learned": [len(FACTS) + i for i, column in enumerate(chosen) if column.kind == PRIOR],
            "picture": data_address(to_png(picture(in_order(runs, chosen))), "image/png"),
            "conditions": conditions(runs[0].results),
            "differing": differing_conditions(runs),
            "names": [run.name for run in runs],
        },
    )


def write_comparison(runs: Sequence[Run], path: Path, baseline: str | None = None) -> None:
    """Write a comparison in the format of the path's ending. `.measurements` is a folder with one file per variant.

    Raises `ConfigError` for an unknown ending or baseline, and for rows whose runs were measured differently.
    """
    if path.suffix == ENDING:
        write_rows(runs, path)
        return
    formats: dict[str, Callable[[], bytes]] = {
        ".html": lambda: as_page(runs, baseline).encode(),
        ".png": lambda: to_png(picture(in_order(runs, columns(runs)))),
        ".csv": lambda: as_csv(exact_table(runs)).encode(errors="backslashreplace"),
        ".json": lambda: as_json(runs, baseline).encode(),
        ".md": lambda: as_markdown(table(runs, baseline=baseline)).encode(),
        ".tex": lambda: as_tex(variant_table(runs)).encode(),
    }
    if path.suffix not in formats:
        raise ConfigError(f"{path}: the ending must be one of {', '.join((*formats, ENDING))}")
    with reporting(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, formats[path.suffix]())
