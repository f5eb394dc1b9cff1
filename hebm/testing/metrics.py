"""Checks of a metric. Every check is called with a recipe, and with the images and the backbone of small evaluations.

`hebm.testing.evaluations` describes these evaluations. Checks of numbers use the full one.
"""

from __future__ import annotations

import functools
import json
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from hebm.errors import CheckpointError, HebmError, NonFiniteError
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.evaluation.metrics_file import Results, from_json
from hebm.evaluation.result import evaluate
from hebm.interfaces import Backbone, ImageSpec
from hebm.noise import BLOCK
from hebm.report import comparison, comparison_table, metric_table
from hebm.report.comparison_text import as_json, as_markdown, as_text
from hebm.store.run_folder import RunFolder
from hebm.testing.evaluations import FULL, SmallEvaluation, subjects
from hebm.testing.metric_failures import computed
from hebm.testing.model_states import unchanged
from hebm.testing.promises import expect, no_global_randomness

RESERVED = ("seconds", "chain-steps")
"""Names of columns that `hebm compare` adds."""


def _compute(recipe: MetricRecipe, evaluation: SmallEvaluation) -> list[Measurement]:
    """Call `check` and `compute`, like a run."""
    recipe.check(evaluation.plan)
    return list(recipe.compute(evaluation))


def _measured(recipe: MetricRecipe, evaluation: SmallEvaluation) -> list[Measurement]:
    """Compute on a complete evaluation, where a `HebmError` is a failure of the check."""
    try:
        return _compute(recipe, evaluation)
    except HebmError as error:
        _refuse(error)
        raise


def _refuse(error: HebmError) -> None:
    fix = "use options that suit 64 to 192 images, or pass a suitable model to cases(recipe, images=…, backbone=…)"
    expect(False, "measurements of a small but complete model", f"{type(error).__name__}: {error}", fix)


@functools.lru_cache(maxsize=1)
def _full(
    recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None
) -> tuple[tuple[Measurement, ...], SmallEvaluation]:
    """Return the measurements of the full evaluation, computed once for all checks."""
    evaluation = subjects(images, backbone)[FULL].evaluation()
    return tuple(_measured(recipe, evaluation)), evaluation


def check_measurements(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `compute` returns `Measurement`s, at least one, with unique (name, kind, part, extractor)."""
    evaluation = subjects(images, backbone)[FULL].evaluation()
    try:
        recipe.check(evaluation.plan)
        found: Any = recipe.compute(evaluation)
    except HebmError as error:
        _refuse(error)
    fix = "return a list of hebm.evaluation.metric.Measurement"
    expect(isinstance(found, Iterable), "a list of measurements from compute", type(found).__name__, fix)
    listed = list(found)
    strange = [repr(item) for item in listed if not isinstance(item, Measurement)]
    expect(not strange, "only Measurements in the list", ", ".join(strange[:3]), fix)
    expect(
        bool(listed),
        "at least one measurement",
        "none",
        "if nothing can be measured, return a Measurement of None with the reason as `note`",
    )
    keys = [item.key for item in listed]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    fix = "give each measurement a unique combination of name, kind and part"
    expect(not twice, "unique (name, kind, part, extractor)", f"repeated: {', '.join(twice)}", fix)


def check_values(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that a value is finite or `note` says why it is missing, and that an error is ≥ 0 and has a value."""
    found, _ = _full(recipe, images, backbone)
    silent = [item.name for item in found if not item.found and not item.note.strip()]
    fix = "set the value to None and `note` to the reason"
    expect(not silent, "a finite value, or a reason in `note`", f"neither in {', '.join(silent)}", fix)
    infinite = [item.name for item in found if math.isinf(item.value)]
    expect(not infinite, "finite values, or None", f"infinite values of {', '.join(infinite)}", fix)
    below = [f"{item.name} ± {item.error:g}" for item in found if item.error is not None and item.error < 0]
    expect(
        not below, "standard errors of at least 0", ", ".join(below), "set `error` to the standard error, or to None"
    )
    alone = [item.name for item in found if item.error is not None and not item.found]
    expect(
        not alone,
        "an error only with a value",
        f"an error without a value in {', '.join(alone)}",
        "set `error` to None",
    )


def check_titles(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that measurements have titles of one line, and that equal names share title, unit and direction."""
    found, _ = _full(recipe, images, backbone)
    bad = [item.name for item in found if not item.title.strip() or len(item.title.splitlines()) > 1]
    seen = f"no title, or several lines, in {', '.join(bad)}"
    expect(not bad, "a title of one line", seen, "set `title`, such as 'Fréchet distance'")
    heads: dict[str, set[tuple[str, str, str | None]]] = {}
    for item in found:
        heads.setdefault(item.name, set()).add((item.title, item.unit, item.better))
    mixed = [name for name, several in heads.items() if len(several) > 1]
    fix = "use different names for measurements that differ in title, unit or `better`"
    expect(not mixed, "one title, unit and `better` for each name", f"several for {', '.join(mixed)}", fix)
    taken = [name for name in heads if name in RESERVED]
    expect(
        not taken, f"names other than the columns {', '.join(RESERVED)} of hebm compare", ", ".join(taken), "rename it"
    )


def check_conditions(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that the extractors named in `conditions` are exactly those that the metric used."""
    found, evaluation = _full(recipe, images, backbone)
    named = {str(item.conditions["extractor"]) for item in found if "extractor" in item.conditions}
    used = set(evaluation.extractors)
    fix = 'set conditions={"extractor": evaluation.extractor().name} exactly where the number depends on its features'
    expect(
        used <= named,
        "conditions that name every extractor in use",
        f"{', '.join(sorted(used - named))} is not named",
        fix,
    )
    expect(
        named <= used,
        "conditions that name only extractors in use",
        f"{', '.join(sorted(named - used))} was not used",
        fix,
    )


def check_repeats(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that an equal evaluation gives equal measurements, bit for bit."""
    first, _ = _full(recipe, images, backbone)
    again = _measured(recipe, subjects(images, backbone)[FULL].evaluation())
    differing = [a.name for a, b in zip(first, again, strict=False) if repr(a) != repr(b)]
    same = len(first) == len(again) and not differing
    fix = "keep no state between calls, and draw through the evaluation or from a Noise with its seed"
    seen = f"different numbers in {', '.join(differing)}" if differing else f"{len(again)} instead of {len(first)}"
    expect(same, "equal measurements from an equal evaluation", seen, fix)


def check_batch_size(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that values do not depend on the batch size, to a relative error of 1e-4 or an absolute one of 1e-5."""
    full = subjects(images, backbone)[FULL]
    few, many = (_measured(recipe, full.evaluation(samples=2 * BLOCK, rows=rows)) for rows in (BLOCK, 2 * BLOCK))
    values = {item.key: item.value for item in many if item.found}
    differing = [
        f"{item.name}: {item.value:g} and {values[item.key]:g}"
        for item in few
        if item.key in values and not abs(item.value - values[item.key]) <= 1e-5 + 1e-4 * abs(item.value)
    ]
    fix = "sum over images instead of averaging batches; use evaluation.pixels, features or per_image"
    expect(not differing, "equal values with batches of 64 and of 128 images", "; ".join(differing[:3]), fix)


def check_no_global_rng(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `compute` uses no global generator."""
    evaluation = subjects(images, backbone)[FULL].evaluation()
    with no_global_randomness("the metric"):
        _measured(recipe, evaluation)


def check_leaves_the_model(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `compute` leaves the model's weights, modes and gradients unchanged."""
    evaluation = subjects(images, backbone)[FULL].evaluation()
    with unchanged("a metric", backbone=evaluation.model.backbone, prior=evaluation.model.prior):
        _measured(recipe, evaluation)


def check_lacking(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `check` raises a `HebmError`, or `note` gives the reason, if the model or data lack something.

    Tried without labels, with attributes, without an inference model, without a learned prior, and with a context.
    """
    for subject in subjects(images, backbone).values():
        found = computed(recipe, subject.evaluation(), subject.name)
        silent = [item.name for item in found if not item.found and not item.note.strip()]
        expect(
            not silent,
            f"a value, or a reason in `note` ({subject.name})",
            f"neither in {', '.join(silent)}",
            "set `note` to the reason",
        )


def check_undefined(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that a model that gives NaN leads to `NonFiniteError`, or to None for values that depend on it."""
    sound, _ = _full(recipe, images, backbone)
    evaluation = subjects(images, backbone)[FULL].evaluation()
    with torch.no_grad():
        for parameter in evaluation.model.backbone.parameters():
            parameter.fill_(torch.nan)
    fix = "use evaluation.pixels or features, which raise for NaN; or set the value to None, with a note"
    try:
        found = _compute(recipe, evaluation)
    except NonFiniteError:
        return
    except Exception as error:
        expect(
            False,
            "NonFiniteError, or measurements of None, for a model that gives NaN",
            f"{type(error).__name__}: {error}",
            fix,
        )
        raise
    before = {item.key: item.value for item in sound}
    made = [f"{item.name} = {item.value:g}" for item in found if item.found and item.value != before.get(item.key)]
    expect(not made, "no new number from a model that gives NaN", "; ".join(made[:3]), fix)


def check_results_file(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that an evaluation accepts the measurements and that `metrics.json` keeps them unchanged."""
    results, fix = _results(recipe, images, backbone), "use only finite numbers, texts and booleans as conditions"
    try:
        text = json.dumps(results.to_json(), allow_nan=False)
        read = from_json(json.loads(text), Path("metrics.json"))
    except (TypeError, ValueError, CheckpointError) as error:
        expect(False, "measurements that can be written to metrics.json and read", str(error), fix)
    same = json.dumps(read.to_json(), allow_nan=False) == text
    expect(same, "equal measurements, written to metrics.json and read", "they differ", fix)


def _results(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> Results:
    evaluation = subjects(images, backbone)[FULL].evaluation([recipe])
    results = evaluate(evaluation)
    seen = "; ".join(failed.reason for failed in results.failures)
    expect(not seen, "measurements that an evaluation accepts", seen, "follow hebm.evaluation.metric.Measurement")
    return results


def check_shown(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that the report and `hebm compare` show every measurement, and that it is comparable with itself."""
    results = _results(recipe, images, backbone)
    tables = [make(results, detail) for make in (metric_table.by_kind, metric_table.others) for detail in (True, False)]
    rows = [row[0] for table in tables for row in table.rows]
    own = [item for item in results.measurements if not item.name.startswith("draws-")]
    absent = [item.name for item in own if not any(row.startswith(item.title) for row in rows)]
    expect(
        not absent, "a row in the report's tables for each measurement", f"none for {', '.join(absent)}", "set `title`"
    )
    with tempfile.TemporaryDirectory() as folder:
        runs = [comparison.Run(RunFolder(Path(folder) / name), {}, results, "") for name in ("a", "b")]
        differing = comparison.differing_conditions(runs)
        expect(
            not differing,
            "conditions that are equal to themselves",
            "; ".join(differing),
            "use texts and finite numbers",
        )
        heads = list(comparison.exact_table(runs).header)
        twice = sorted({head for head in heads if heads.count(head) > 1})
        fix = "rename it; NAME.error is the column of an error, and kind and part follow a name after a dot"
        expect(not twice, "unique columns in hebm compare", f"several columns {', '.join(twice)}", fix)
        table = comparison_table.table(runs, comparison.columns(runs, details=True))
        lost = [item.name for item in own if item.found and not any(item.title in head for head in table.header)]
        expect(
            not lost,
            "a column in hebm compare for each value",
            f"none for {', '.join(lost)}",
            "do not override the fields of Measurement",
        )
        shown = as_text(table), as_markdown(table), as_json(runs)
        expect(
            all(shown),
            "a comparison as text, Markdown and JSON",
            "an empty one",
            "do not override the fields of Measurement",
        )
