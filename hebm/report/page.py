"""`report.html`: one page about one run that needs no other file, drawn from the run's folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import jinja2

from hebm.analyse.section import Picture as Illustration
from hebm.analyse.section import Section, read_sections
from hebm.report import metric_table
from hebm.report.curves import training_curves
from hebm.report.figure_data import ChainData, Figures, read_figures
from hebm.report.numbers import percent, shown, significant
from hebm.report.panels import Panel, band, data_address, histogram
from hebm.runs import open_run
from hebm.store.durable import replace_file, reporting
from hebm.store.metrics import MetricsLog
from hebm.store.run_folder import RunFolder

GRIDS = {
    "data": "data",
    "reconstruction": "reconstruction",
    "gaussian": "Gaussian prior",
    "prior": "learned prior",
}
_PREVIEWS = 8
_TABLES = ("data", "backbone", "prior", "train")


@attrs.frozen
class Picture:
    """An image on the page: its title, a figure to stand beside it, its `data:` address."""

    title: str
    note: str
    source: str


def write_report(folder: RunFolder) -> Path:
    """Write the page of a run and return its path.

    The page says what the folder does not have yet (an evaluation, images, a log). Raises `CheckpointError` if it is
    not a run folder, or a file in it was changed or damaged.
    """
    page = rendered("page.html.jinja", contents(folder))
    with reporting(f"write {folder.report}"):
        replace_file(folder.report, page.encode())
    return folder.report


def rendered(template: str, contents: Mapping[str, Any]) -> str:
    """A template of this package, filled; what comes from files is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"significant": significant, "percent": percent, "shown": shown}
    return environment.get_template(template).render(contents)


def contents(folder: RunFolder) -> dict[str, Any]:
    """What the page's template is filled with."""
    run = open_run(folder.path).contents
    table, metrics, figures = run.table, run.metrics, read_figures(folder.samples)
    records = MetricsLog(folder.metrics_log).read()
    return {
        "name": table.get("name", folder.path.name),
        "seed": table.get("seed"),
        "types": {key: component(table, key) for key in _TABLES},
        "metrics": metrics,
        "sentences": metric_table.in_words(metrics) if metrics else [],
        "conditions": metric_table.conditions(metrics) if metrics else "",
        "conditions_in_short": metric_table.conditions_in_short(metrics) if metrics else "",
        "kinds": metric_table.by_kind(metrics or {}),
        "others": metric_table.others(metrics or {}),
        "grids": _grids(folder, figures, metrics or {}),
        "previews": _previews(folder),
        "figures": figures,
        "strip": _strip(folder, figures),
        "chain_panels": _chain_panels(figures.chain) if figures and figures.chain else [],
        "histogram": _histogram(figures),
        "sections": _sections(folder),
        "phases": training_curves(records),
        "config": run.config,
        "facts": _facts(run.manifest),
    }


def component(table: Mapping[str, Any], key: str) -> str:
    """The `type` of a table of the configuration."""
    value = table.get(key)
    return str(value.get("type", "–")) if isinstance(value, Mapping) else str(value or "–")


# ---------------------------------------------------------------- pictures


def _grids(folder: RunFolder, figures: Figures | None, metrics: Mapping[str, Any]) -> list[Picture]:
    distances = metrics.get("fd") or {}
    found = []
    for kind, title in GRIDS.items():
        source = picture_source(folder, figures.images.get(kind)) if figures else None
        note = f"FD {significant(distances[kind])}" if kind in distances else ""
        if source:
            found.append(Picture(title, note, source))
    return found


def picture_source(folder: RunFolder, name: str | None) -> str | None:
    """A PNG of the folder of samples as a `data:` address, None if it is not there."""
    return _address(folder.samples / Path(name).name) if name else None


def _previews(folder: RunFolder) -> list[Picture]:
    """Grids drawn during training, a few of them, evenly spread."""
    paths = sorted(path for path in folder.samples.glob("step-*.png") if path.stem[5:].isdigit())
    stride = -(-len(paths) // _PREVIEWS) or 1
    chosen = paths[::-1][::stride][::-1]
    sources = [(path, picture_source(folder, path.name)) for path in chosen]
    return [Picture(f"step {int(path.stem[5:]):,}", "", source) for path, source in sources if source]


def _strip(folder: RunFolder, figures: Figures | None) -> str | None:
    return picture_source(folder, figures.images.get("chain")) if figures else None


def _chain_panels(chain: ChainData) -> list[Panel]:
    panels = [band("log density (up to a constant)", chain.log_density), band("gradient norm", chain.grad_norm)]
    return panels if chain.f is None else [panels[0], band("log tilt f", chain.f), panels[1]]


def _histogram(figures: Figures | None) -> Panel | None:
    if figures is None or not figures.tilts:
        return None
    return histogram("Log tilt f of draws", figures.tilts, "f (large = likely; up to a constant)")


# ---------------------------------------------------------------- analyses


def _sections(folder: RunFolder) -> list[tuple[Section, list[tuple[Illustration, str | None]]]]:
    """What `hebm analyse` found: each section with its pictures and their addresses, None for one that is not there."""
    return [
        (
            section,
            [(picture, _address(folder.analyses / name / Path(picture.file).name)) for picture in section.pictures],
        )
        for name, section in read_sections(folder.analyses).items()
    ]


def _address(path: Path) -> str | None:
    if not path.is_file():
        return None
    with reporting(f"read {path}"):
        return data_address(path.read_bytes(), "image/png")


# ---------------------------------------------------------------- versions


def _facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions, machine and data fingerprint, one a row."""
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
