"""What a metric promises. Every check is called with a recipe, the images and the backbone of small evaluations.

`hebm.testing.evaluations` says which evaluations they are. A promise about numbers is checked on the full one.
"""

from __future__ import annotations

import functools
import json
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hebm.errors import CheckpointError, HebmError, PluginError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.metric import Measurement, MetricRecipe
from hebm.evaluation.metrics_file import Results, from_json
from hebm.evaluation.result import evaluate
from hebm.interfaces import Backbone, ImageSpec
from hebm.noise import BLOCK
from hebm.report import comparison, comparison_table, metric_table
from hebm.report.comparison_text import as_json, as_markdown, as_text
from hebm.store.run_folder import RunFolder
from hebm.testing.evaluations import FULL, SmallEvaluation, subjects
from hebm.testing.model_states import unchanged
from hebm.testing.promises import no_global_randomness, promise

RESERVED = ("seconds", "chain-steps")
"""Names of columns that `hebm compare` adds."""


def _compute(recipe: MetricRecipe, evaluation: Evaluation) -> list[Measurement]:
    """Check and compute, as a run does."""
    recipe.check(evaluation.splits.images, evaluation.settings)
    return list(recipe.compute(evaluation))


def _measured(recipe: MetricRecipe, evaluation: Evaluation) -> list[Measurement]:
    """Compute on an evaluation that lacks nothing."""
    try:
        return _compute(recipe, evaluation)
    except HebmError as error:
        _refuse(error)
        raise


def _refuse(error: HebmError) -> None:
    fix = "give options that suit 64 to 192 images, or the model that it needs: cases(recipe, images=…, backbone=…)"
    promise(False, "measurements of a small model that lacks nothing", f"{type(error).__name__}: {error}", fix)


@functools.lru_cache(maxsize=1)
def _full(
    recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None
) -> tuple[tuple[Measurement, ...], SmallEvaluation]:
    """Return what it measures on the full evaluation, once for all checks."""
    evaluation = subjects(images, backbone)[FULL].evaluation()
    return tuple(_measured(recipe, evaluation)), evaluation


def check_measurements(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """`compute` returns a list of `Measurement`s, at least one, no two with the same name, kind, part and extractor."""
    evaluation = subjects(images, backbone)[FULL].evaluation()
    try:
        recipe.check(evaluation.splits.images, evaluation.settings)
        found: Any = recipe.compute(evaluation)
    except HebmError as error:
        _refuse(error)
    fix = "return [Measurement(…), …] of hebm.evaluation.metric"
    promise(isinstance(found, Iterable), "a list of measurements", type(found).__name__, fix)
    listed = list(found)
    strange = [repr(item) for item in listed if not isinstance(item, Measurement)]
    promise(not strange, "measurements", ", ".join(strange[:3]), fix)
    promise(bool(listed), "at least one measurement", "none", "where nothing can be measured, say why in `note`")
    keys = [item.key for item in listed]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    fix = "give each its own name, kind or part"
    promise(not twice, "no two of the same name, kind, part and extractor", f"twice: {', '.join(twice)}", fix)


def check_values(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """A value is finite, or `note` says why there is none; an error is at least 0, and belongs to a value."""
    found, _ = _full(recipe, images, backbone)
    silent = [item.name for item in found if not item.found and not item.note.strip()]
    fix = "give None as the value, and the reason as `note`"
    promise(not silent, "finite values, or a reason in `note`", f"neither in {', '.join(silent)}", fix)
    infinite = [item.name for item in found if math.isinf(item.value)]
    promise(not infinite, "finite values, or None", f"infinite: {', '.join(infinite)}", fix)
    below = [f"{item.name} ± {item.error:g}" for item in found if item.error is not None and item.error < 0]
    promise(not below, "standard errors of at least 0", ", ".join(below), "give the standard error, or None")
    alone = [item.name for item in found if item.error is not None and not item.found]
    promise(not alone, "errors of values alone", f"an error without a value: {', '.join(alone)}", "leave error None")


def check_titles(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Each measurement has a title of one line; those of one name share title, unit and better direction."""
    found, _ = _full(recipe, images, backbone)
    bad = [item.name for item in found if not item.title.strip() or len(item.title.splitlines()) > 1]
    promise(not bad, "a title of one line", f"none, or several lines, for {', '.join(bad)}", 'title="what it is"')
    heads: dict[str, set[tuple[str, str, str | None]]] = {}
    for item in found:
        heads.setdefault(item.name, set()).add((item.title, item.unit, item.better))
    mixed = [name for name, several in heads.items() if len(several) > 1]
    fix = "give numbers that differ in title, unit or direction different names"
    promise(not mixed, "one title, unit and direction for each name", f"several for {', '.join(mixed)}", fix)
    taken = [name for name in heads if name in RESERVED]
    promise(not taken, "no name of a column of hebm compare", ", ".join(taken), "choose another name")


def check_conditions(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """If it uses an extractor, its measurements name it: `conditions={"extractor": name}`; and no extractor else."""
    found, evaluation = _full(recipe, images, backbone)
    named = {str(item.conditions["extractor"]) for item in found if "extractor" in item.conditions}
    used = set(evaluation.extractors)
    fix = 'conditions={"extractor": evaluation.extractor().name} for every number that depends on its features'
    promise(used <= named, "the extractor that was used among the conditions", f"{used - named} is not named", fix)
    promise(named <= used, "an extractor that was used", f"{named - used} was not used", fix)


def check_repeats(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """An equal evaluation gives equal measurements, bit for bit."""
    first, _ = _full(recipe, images, backbone)
    again = _measured(recipe, subjects(images, backbone)[FULL].evaluation())
    differing = [a.name for a, b in zip(first, again, strict=False) if repr(a) != repr(b)]
    same = len(first) == len(again) and not differing
    fix = "keep no state between calls; draw through the evaluation, or from a Noise with the evaluation's seed"
    promise(same, "the same numbers, computed again", f"other numbers: {', '.join(differing) or 'another count'}", fix)


def check_batch_size(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Values do not depend on the number of images at a time, up to rounding: to a factor of 1 ± 10⁻⁴ or to 10⁻⁵."""
    full = subjects(images, backbone)[FULL]
    few, many = (_measured(recipe, full.evaluation(samples=2 * BLOCK, rows=rows)) for rows in (BLOCK, 2 * BLOCK))
    values = {item.key: item.value for item in many if item.found}
    differing = [
        f"{item.name}: {item.value:g} and {values[item.key]:g}"
        for item in few
        if item.key in values and not abs(item.value - values[item.key]) <= 1e-5 + 1e-4 * abs(item.value)
    ]
    fix = "sum over images, not means over batches; use evaluation.pixels, features or per_image"
    promise(not differing, "the same values in batches of 64 and of 128", "; ".join(differing[:3]), fix)


def check_no_global_rng(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Computing it touches no global generator."""
    evaluation = subjects(images, backbone)[FULL].evaluation()
    with no_global_randomness("the metric"):
        _measured(recipe, evaluation)


def check_leaves_the_model(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """The model's weights, modes and gradients are afterwards as they were before."""
    evaluation = subjects(images, backbone)[FULL].evaluation()
    with unchanged("a metric", backbone=evaluation.model.backbone, prior=evaluation.model.prior):
        _measured(recipe, evaluation)


def check_lacking(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Where a model or its data lack something, `check` or `compute` raises a `HebmError`, or `note` gives the reason.

    Tried without labels, with attributes, without an inference model, without a learned prior, and with a context.
    """
    for subject in subjects(images, backbone).values():
        try:
            found = _compute(recipe, subject.evaluation())
        except HebmError:
            continue
        except Exception as error:
            seen = f"{type(error).__name__}: {error} ({subject.name})"
            fix = "raise ConfigError in check(images, settings), or return a measurement without value and with a note"
            promise(False, "measurements, or a HebmError that says what is missing", seen, fix)
        silent = [item.name for item in found if not item.found and not item.note.strip()]
        promise(
            not silent, f"values or reasons ({subject.name})", f"neither in {', '.join(silent)}", "say why in `note`"
        )


def check_results_file(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """An evaluation accepts the measurements, and they are the same after `metrics.json`."""
    results, fix = _results(recipe, images, backbone), "give plain, finite numbers, texts and booleans as conditions"
    try:
        text = json.dumps(results.to_json(), allow_nan=False)
        read = from_json(json.loads(text), Path("metrics.json"))
    except (TypeError, ValueError, CheckpointError) as error:
        promise(False, "results that go to metrics.json and back", str(error), fix)
    same = json.dumps(read.to_json(), allow_nan=False) == text
    promise(same, "the same results, written and read", "others", fix)


def _results(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> Results:
    evaluation = subjects(images, backbone)[FULL].evaluation([recipe])
    try:
        return evaluate(evaluation)
    except PluginError as error:
        promise(False, "measurements that an evaluation accepts", str(error), "see hebm.evaluation.metric.Measurement")
        raise


def check_shown(recipe: MetricRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Every measurement is in the page's tables and, if it has a value, in `hebm compare`, comparable with itself."""
    results = _results(recipe, images, backbone)
    tables = [make(results, detail) for make in (metric_table.by_kind, metric_table.others) for detail in (True, False)]
    rows = [row[0] for table in tables for row in table.rows]
    own = [item for item in results.measurements if not item.name.startswith("draws-")]
    absent = [item.name for item in own if not any(row.startswith(item.title) for row in rows)]
    promise(not absent, "a row of the page's tables for each measurement", f"none for {', '.join(absent)}", "set title")
    with tempfile.TemporaryDirectory() as folder:
        runs = [comparison.Run(RunFolder(Path(folder) / name), {}, results, "") for name in ("a", "b")]
        differing = comparison.differing_conditions(runs)
        promise(not differing, "conditions equal to themselves", "; ".join(differing), "give texts and plain numbers")
        heads = list(comparison.exact_table(runs).header)
        twice = sorted({head for head in heads if heads.count(head) > 1})
        fix = "rename it: NAME.error is the column of NAME's error, and kind and part follow the name after a dot"
        promise(not twice, "a column of its own in hebm compare", f"several are called {', '.join(twice)}", fix)
        table = comparison_table.table(runs, comparison.columns(runs, details=True))
        lost = [item.name for item in own if item.found and not any(item.title in head for head in table.header)]
        promise(
            not lost,
            "each value in hebm compare",
            f"not there: {', '.join(lost)}",
            "do not override the fields of Measurement",
        )
        shown = as_text(table), as_markdown(table), as_json(runs)
        promise(all(shown), "a comparison as text, Markdown and JSON", "an empty one", "keep the fields as they are")
