"""Write `report.html`, a self-contained page about a run, from the files in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import jinja2

from hebm.analysis.section import Picture as Illustration
from hebm.analysis.section import Section, read_sections
from hebm.config.components import type_of
from hebm.evaluation.kinds import KINDS, PRIOR
from hebm.evaluation.metrics_file import Results
from hebm.printable import LINES, printable
from hebm.report import metric_table
from hebm.report.control import below_control
from hebm.report.curves import PhaseCurves, training_curves
from hebm.report.named_evaluations import side_by_side
from hebm.report.numbers import percent, shown, significant
from hebm.report.panels import Panel, band, histogram
from hebm.report.picture_files import picture_address
from hebm.report.plot_data import BY_CLASS, ChainData, Plots, read_plots
from hebm.report.training_records import training_records
from hebm.single_layer_energies import advice
from hebm.store.durable import listed, replace_file, reporting
from hebm.store.metrics import MetricsLog
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import StoredRun, read_run

_PREVIEWS = 8
_TABLES = ("data", "backbone", "prior", "train")


@attrs.frozen
class Picture:
    """An image on the page.

    Arguments:
        title: title above the image.
        note: a number or text next to it.
        source: its `data:` address.
        learned: whether it shows the learned prior.
    """

    title: str
    note: str
    source: str
    learned: bool = False


def write_report(folder: RunFolder) -> Path:
    """Write the page of a run and return its path.

    The page says which parts are missing so far (an evaluation, images, a log).

    Raises `CheckpointError` if this is not a run folder, or if a file in it was changed or damaged.
    """
    page = rendered("page.html.jinja", contents(folder))
    with reporting(f"write {folder.report}"):
        replace_file(folder.report, page.encode())
    return folder.report


def rendered(template: str, contents: Mapping[str, Any]) -> str:
    """Fill a template of this package. Text is escaped, and unprintable characters are spelled out."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {"significant": significant, "percent": percent, "shown": shown}
    return environment.get_template(template).render(contents)


def _printable(value: Any) -> Any:
    return printable(value, f"{LINES}\r") if isinstance(value, str) else value


def contents(folder: RunFolder) -> dict[str, Any]:
    """Return the variables of the page's template."""
    run = read_run(folder.path)
    table, results, plots = run.contents.table, run.results, read_plots(folder.samples)
    found = results or Results()
    records = training_records(run)
    return {
        "name": table.get("name", folder.path.name),
        "seed": table.get("seed"),
        "types": {key: type_of(table, key) for key in _TABLES},
        "evaluated": results is not None,
        "below_control": below_control(found),
        "summaries": metric_table.summaries(found),
        "cards": metric_table.cards(found),
        "conditions": metric_table.conditions(found),
        "conditions_in_short": metric_table.conditions_in_short(found),
        "learned": KINDS[PRIOR].title,
        "tables": _tables(found),
        "with": metric_table.WITH,
        "named": side_by_side(results, run.evaluations),
        "notes": metric_table.notes(found),
        "failures": found.failures,
        "grids": _grids(folder, plots, metric_table.notes_by_kind(found)),
        "drawing_seed": found.conditions.get("seed", table.get("seed")),
        "by_class": picture_source(folder, plots.images.get(BY_CLASS)) if plots else None,
        "shown_by_metrics": _shown_by_metrics(folder, plots),
        "previews": _previews(folder),
        "plots": plots,
        "strip": _strip(folder, plots),
        "chain_panels": _chain_panels(plots.chain) if plots and plots.chain else [],
        "histogram": _histogram(plots),
        "advice": advice(plots.single_layers) if plots else "",
        "sections": _sections(folder),
        "phases": training_curves(records),
        "backbone_phases": _backbone_curves(run),
        "config": run.contents.config,
        "facts": _facts(run.manifest),
    }


def _tables(results: Results) -> list[tuple[str, metric_table.Table]]:
    """Return the tables of measurements that have rows, with their titles."""
    tables = [
        ("Metrics", metric_table.by_kind(results, detail=False)),
        ("Other metrics", metric_table.others(results, detail=False)),
        ("Details", metric_table.by_kind(results, detail=True)),
        ("Other details", metric_table.others(results, detail=True)),
    ]
    return [(title, table) for title, table in tables if table.rows]


# ---------------------------------------------------------------- pictures


def _grids(folder: RunFolder, plots: Plots | None, notes: Mapping[str, str]) -> list[Picture]:
    images = plots.images if plots else {}
    sources = [(kind, picture_source(folder, images.get(kind.name))) for kind in KINDS.values()]
    return [
        Picture(kind.title, notes.get(kind.name, ""), source, kind.name == PRIOR) for kind, source in sources if source
    ]


def _shown_by_metrics(folder: RunFolder, plots: Plots | None) -> list[Picture]:
    sources = [(shown, picture_source(folder, shown.file)) for shown in (plots.shown if plots else ())]
    return [Picture(shown.title, shown.caption, source) for shown, source in sources if source]


def picture_source(folder: RunFolder, name: str | None) -> str | None:
    """Return a PNG in the folder of samples as a `data:` address; None if it does not exist."""
    return picture_address(folder.samples / Path(name).name, "hebm evaluate") if name else None


def _previews(folder: RunFolder) -> list[Picture]:
    """Return a few evenly spaced grids from training."""
    with reporting(f"read {folder.samples}"):
        paths = [path for path in listed(folder.samples) if path.match("step-*.png") and path.stem[5:].isdigit()]
    stride = -(-len(paths) // _PREVIEWS) or 1
    chosen = paths[::-1][::stride][::-1]
    sources = [(path, picture_source(folder, path.name)) for path in chosen]
    return [Picture(f"step {int(path.stem[5:]):,}", "", source) for path, source in sources if source]


def _backbone_curves(run: StoredRun) -> list[PhaseCurves]:
    """Return the curves of the first phase of the run that trained the backbone; none if its log is missing."""
    log = None if run.backbone_from is None else RunFolder(run.backbone_from).metrics_log
    return training_curves(MetricsLog(log).read())[:1] if log is not None and log.exists() else []


def _strip(folder: RunFolder, plots: Plots | None) -> str | None:
    return picture_source(folder, plots.images.get("chain")) if plots else None


def _chain_panels(chain: ChainData) -> list[Panel]:
    bands = {
        "log density (up to a constant)": chain.log_density,
        "log tilt f": chain.f,
        "gradient norm": chain.grad_norm,
    }
    return [band(title, values) for title, values in bands.items() if values is not None]


def _histogram(plots: Plots | None) -> Panel | None:
    if plots is None or not plots.tilts:
        return None
    return histogram("Log tilt f of draws", plots.tilts, "f (large = likely; up to a constant)")


# ---------------------------------------------------------------- analyses


def _sections(folder: RunFolder) -> list[tuple[Section, list[tuple[Illustration, str | None]]]]:
    """Return the sections of `hebm analyse`, each with its pictures and their addresses (None for a missing file)."""
    return [
        (
            section,
            [(picture, _illustration(folder.analyses / name, picture)) for picture in section.pictures],
        )
        for name, section in read_sections(folder.analyses).items()
    ]


def _illustration(folder: Path, picture: Illustration) -> str | None:
    return picture_address(folder / Path(picture.file).name, f"hebm analyse {folder.name}")


# ---------------------------------------------------------------- versions


def _facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return rows with versions, machine and data fingerprint."""
    plugins = {f"plugin {name}": version for name, version in (manifest.get("plugins") or {}).items()}
    hardware = manifest.get("hardware") or {}
    facts = {"hebm": manifest.get("hebm"), **plugins}
    facts |= {key: manifest.get(key) for key in ("torch", "python", "platform") if key in manifest}
    facts |= {key: hardware[key] for key in hardware}
    facts |= {"data fingerprint": _fingerprint(manifest.get("data")), "run id": manifest.get("run_id")}
    facts |= {f"change {i}": change for i, change in enumerate(manifest.get("history") or [], 1)}
    return [(name, shown(value)) for name, value in facts.items()]


def _fingerprint(data: Any) -> str:
    if isinstance(data, Mapping):
        return ", ".join(f"{split} {str(value)[:16]}…" for split, value in data.items())
    return shown(data)
