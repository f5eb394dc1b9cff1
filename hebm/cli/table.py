"""The result of a run, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hebm.report.metric_table import CONDITIONS, leaves
from hebm.report.numbers import shown
from hebm.store.run_folder import RunFolder

_SHARES = {
    "gap_closed": "gap closed",
    "gap_closed_scaled_gaussian": "  by the Gaussian prior at its best temperature",
}
_LABELS: Mapping[str, str] = {"fd": "FD", "fid": "FID", "kid": "KID"}
_SECONDS = ("seconds", "seconds_training")


def metrics_table(folder: RunFolder) -> str:
    """What metrics.json says, one figure a line with what it is a figure of, and where the page is."""
    metrics = json.loads(folder.metrics.read_text())
    lines = [f"{folder.path.name}"]
    lines += [f"  {label:<48} {metrics[name]:7.1%}" for name, label in _SHARES.items() if metrics.get(name) is not None]
    results: dict[str, Any] = {
        name: entry for name, entry in metrics.items() if name not in (*CONDITIONS, *_SHARES, *_SECONDS)
    }
    seconds = {name: metrics[name] for name in _SECONDS if name in metrics}
    for name, entry in (results | seconds).items():
        found = leaves(entry, _LABELS.get(name, name), " ")
        lines += [_line(path.replace("_", " "), value) for path, value in found if value is not None]
    extractor = metrics.get("extractor") or {}
    conditions = (
        f"n {metrics['n']}, reference {metrics['n_reference']} {metrics['split']} images, seed {metrics['seed']}"
    )
    lines.append(f"  ({conditions}, extractor {extractor.get('name', 'none')})")
    lines.append(f"  report: {folder.report}")
    return "\n".join(lines)


def _line(path: str, value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = f"{value:9.4g}" if number else shown(value)
    return f"  {path:<48} {text}"
