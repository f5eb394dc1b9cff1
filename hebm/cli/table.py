"""The result of a run, as text."""

from __future__ import annotations

import json
from typing import Any

from hebm.store.run_folder import RunFolder


def metrics_table(folder: RunFolder) -> str:
    """What metrics.json says, one figure a line, and where the page is."""
    metrics = json.loads(folder.metrics.read_text())
    lines = [f"{folder.path.name}"]
    for name, label in (
        ("gap_closed", "gap closed"),
        ("gap_closed_scaled_gaussian", "  by the Gaussian prior at its best temperature"),
    ):
        if metrics.get(name) is not None:
            lines.append(f"  {label:<48} {metrics[name]:7.1%}")
    lines += [f"  FD {kind.replace('_', ' '):<45} {value:9.4g}" for kind, value in _numbers(metrics.get("fd"))]
    shown = ("fd", "versions", "extractor", "gap_closed", "gap_closed_scaled_gaussian", "n", "n_reference", "seed")
    rest = [(key, value) for key, value in _numbers(metrics) if key not in shown]
    lines += [f"  {key.replace('_', ' '):<48} {value:9.4g}" for key, value in rest]
    extractor = metrics.get("extractor") or {}
    conditions = (
        f"n {metrics['n']}, reference {metrics['n_reference']} {metrics['split']} images, seed {metrics['seed']}"
    )
    lines.append(f"  ({conditions}, extractor {extractor.get('name', 'none')})")
    lines.append(f"  report: {folder.report}")
    return "\n".join(lines)


def _numbers(entries: Any) -> list[tuple[str, float]]:
    numbers = (entries or {}).items()
    return [(key, value) for key, value in numbers if isinstance(value, (int, float)) and not isinstance(value, bool)]
