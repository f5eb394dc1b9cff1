"""What an analysis promises. Every check is called with a recipe, the images and the backbone of small evaluations.

`hebm.testing.evaluations` says which evaluations they are. The analysis is run on the first one that it supports.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
from PIL import Image, UnidentifiedImageError

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.section import FILE, Section, read_section
from hebm.errors import CheckpointError, HebmError
from hebm.evaluation.evaluation import Evaluation
from hebm.interfaces import Backbone, ImageSpec
from hebm.store.metrics import finite
from hebm.testing.evaluations import Subject, subjects
from hebm.testing.folders import working_folder
from hebm.testing.model_states import unchanged
from hebm.testing.promises import no_global_randomness, promise

TIMES = "seconds"
"""Numbers under this key, and columns with this head, are times: they differ from run to run.

So are a column whose head starts with "ms", `Section.timings`, and what a `Picture` or `Plot` marks as `timed`.
"""


@attrs.frozen(eq=False)
class Found:
    """The results of one run of an analysis.

    Arguments:
        section: as it was returned.
        files: content of each file of its folder, by name.
        elsewhere: files that were written outside of the folder.
    """

    section: Any
    files: dict[str, bytes]
    elsewhere: tuple[str, ...]


def _run(recipe: AnalysisRecipe, evaluation: Evaluation) -> Found:
    """Run the analysis in an empty folder, which is not the working folder."""
    with working_folder() as here:
        folder = here / "analyses" / "of-this"
        folder.mkdir(parents=True)
        section: Any = recipe.run(evaluation, folder)
        every = [path for path in sorted(here.rglob("*")) if path.is_file()]
        inside = {str(path.relative_to(folder)): path.read_bytes() for path in every if folder in path.parents}
        outside = tuple(str(path.relative_to(here)) for path in every if folder not in path.parents)
    return Found(section, inside, outside)


def _supported(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> Subject:
    """Return the first kind of evaluation that it supports."""
    made = subjects(images, backbone).values()
    reasons = {}
    for subject in made:
        reasons[subject.name] = recipe.unsupported(subject.evaluation())
        if not reasons[subject.name]:
            return subject
    seen = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    fix = "return None from `unsupported` where the analysis can be run; cases(…, backbone=…) takes another model"
    promise(False, "one of the small models is supported", seen, fix)
    raise AssertionError


@functools.lru_cache(maxsize=1)
def _found(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> Found:
    """Run the analysis once for all checks."""
    subject = _supported(recipe, images, backbone)
    try:
        return _run(recipe, subject.evaluation())
    except HebmError as error:
        fix = "give options that suit 48 to 64 images, or return the reason from `unsupported`"
        promise(False, "a section of a small model", f"{type(error).__name__}: {error} ({subject.name})", fix)
        raise


def check_unsupported(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """`unsupported` returns None or a reason in words, and never raises; it supports at least one small model."""
    for subject in subjects(images, backbone).values():
        try:
            reason: Any = recipe.unsupported(subject.evaluation())
        except Exception as error:
            seen = f"{type(error).__name__}: {error} ({subject.name})"
            promise(False, "a reason, or None", seen, "ask with isinstance and getattr, and return a reason")
        words = reason is None or (isinstance(reason, str) and len(reason.split()) > 2)
        fix = "return a sentence for the user, such as 'its prior runs no chain', or None"
        promise(words, "None, or a reason in words", f"{reason!r} ({subject.name})", fix)
    _supported(recipe, images, backbone)


def check_section(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """`run` returns a `Section` with a title and some content; the rows of its tables are as long as their heads."""
    section = _found(recipe, images, backbone).section
    fix = "return hebm.analysis.section.Section(title, text, pictures, tables, numbers)"
    promise(isinstance(section, Section), "a Section", type(section).__name__, fix)
    promise(bool(section.title.strip()), "a title", repr(section.title), fix)
    promise(bool(section.text or section.pictures or section.tables), "text, pictures or tables", "none", fix)
    uneven = [t.title for t in section.tables if any(len(row) != len(t.header) for row in t.rows)]
    promise(not uneven, "rows as long as the header", f"others in {', '.join(uneven)}", "one text for each column")
    curves = [curve for plot in section.plots for curve in plot.curves]
    uneven = [curve.label for curve in curves if len(curve.x) != len(curve.y)]
    promise(not uneven, "curves with a y for each x", f"others in {', '.join(uneven)}", "give None where y is unknown")


def check_pictures(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Every picture is a PNG in the folder, named without a path, and has a title."""
    found = _found(recipe, images, backbone)
    for picture in found.section.pictures:
        fix = "write folder / NAME with hebm.report.grids or hebm.analysis.plots, and give NAME"
        promise(Path(picture.file).name == picture.file, "a name without folders", repr(picture.file), fix)
        promise(picture.file in found.files, f"the file {picture.file}", ", ".join(found.files) or "no file", fix)
        promise(_is_png(found.files[picture.file]), f"{picture.file} is a PNG", "something else", fix)
        promise(bool(picture.title.strip()), f"a title of {picture.file}", "none", "say what it shows")


def _is_png(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            return opened.format == "PNG"
    except (UnidentifiedImageError, OSError):
        return False


def check_stored(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """The section is equal after `section.json`, which it does not write itself."""
    found = _found(recipe, images, backbone)
    promise(FILE not in found.files, f"no {FILE}, which hebm writes", f"it wrote {FILE}", "only return the section")
    with tempfile.TemporaryDirectory() as folder:
        try:
            found.section.write(Path(folder), {})
            read = read_section(Path(folder))
        except (TypeError, ValueError, AttributeError, CheckpointError) as error:
            fix = "texts in tuples, cells as texts, and numbers that JSON can hold"
            promise(False, "a section that goes to JSON and back", f"{type(error).__name__}: {error}", fix)
        wanted = json.loads(json.dumps(finite(attrs.asdict(found.section))))
        same = json.loads(json.dumps(finite(attrs.asdict(read)))) == wanted
        promise(same, "an equal section, written and read", "another one", "texts in tuples, cells as texts")


def check_folder(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """It writes into the folder that it is given, and nowhere else."""
    elsewhere = _found(recipe, images, backbone).elsewhere
    promise(not elsewhere, "files in the folder alone", f"it wrote {', '.join(elsewhere)}", "write folder / NAME")


def check_repeats(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """An equal evaluation gives an equal section and equal files, apart from times: see `TIMES`."""
    first = _found(recipe, images, backbone)
    again = _run(recipe, _supported(recipe, images, backbone).evaluation())
    fix = (
        "draw through the evaluation, or from a Noise with the evaluation's seed; call times 'seconds', write about "
        "them in `timings`, and mark their pictures and plots as `timed`"
    )
    same = _without_times(first.section) == _without_times(again.section)
    promise(same, "an equal section, run again", "another one", fix)
    one, other = _untimed_files(first), _untimed_files(again)
    differing = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    promise(not differing, "equal files, run again", f"others: {', '.join(differing)}", fix)


def _without_times(section: Section) -> str:
    """Return all that a section says, as text, without times."""
    plain = finite(attrs.asdict(attrs.evolve(section, timings=())))
    for table in plain["tables"]:
        table["rows"] = _untimed(table["header"], table["rows"])
    for plot in plain["plots"]:
        plot["curves"] = [{**curve, "x": len(curve["x"]) if plot["timed"] else curve["x"]} for curve in plot["curves"]]
    return json.dumps(_dropped(plain), sort_keys=True)


def _untimed(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """Return rows without the columns of times."""
    times = {i for i, head in enumerate(header) if head == TIMES or head.split(" ")[0] == "ms"}
    return [[cell for i, cell in enumerate(row) if i not in times] for row in rows]


def _untimed_files(found: Found) -> dict[str, object]:
    """Return the content of files, without pictures of times, and of CSV files without columns of times."""
    timed = {picture.file for picture in found.section.pictures if picture.timed}
    kept: dict[str, object] = {name: content for name, content in found.files.items() if name not in timed}
    for name in (name for name in kept if name.endswith(".csv")):
        header, *rows = csv.reader(io.StringIO(found.files[name].decode())) or [[]]
        kept[name] = [header, *_untimed(header, rows)]
    return kept


def _dropped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _dropped(item) for key, item in value.items() if key != TIMES}
    return [_dropped(item) for item in value] if isinstance(value, list) else value


def check_no_global_rng(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Running it touches no global generator."""
    evaluation = _supported(recipe, images, backbone).evaluation()
    with no_global_randomness("the analysis"):
        _run(recipe, evaluation)


def check_leaves_the_model(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """The model's weights, modes and gradients are afterwards as they were before."""
    evaluation = _supported(recipe, images, backbone).evaluation()
    with unchanged("an analysis", backbone=evaluation.model.backbone, prior=evaluation.model.prior):
        _run(recipe, evaluation)


def check_supported(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Where `unsupported` gives no reason, `run` returns a section, or raises a `HebmError`.

    Tried without labels, with attributes, without an inference model, without a learned prior, and with a context.
    """
    first = _supported(recipe, images, backbone).name  # the other checks run it on this one
    for subject in subjects(images, backbone).values():
        evaluation = subject.evaluation()
        if subject.name == first or recipe.unsupported(evaluation):
            continue
        try:
            found = _run(recipe, evaluation)
        except HebmError:
            continue
        except Exception as error:
            seen = f"{type(error).__name__}: {error} ({subject.name})"
            promise(False, "a section", seen, "return the reason from `unsupported`, or raise ConfigError")
        promise(isinstance(found.section, Section), "a section", repr(found.section)[:80], "return a Section")
