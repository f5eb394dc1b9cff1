"""Checks of an analysis. Every check is called with a recipe, and with the images and backbone of small evaluations.

`hebm.testing.evaluations` describes these evaluations. Most checks use the first one that the analysis supports.
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
from hebm.testing.promises import expect, no_global_randomness

TIMES = "seconds"
"""Numbers under this key and columns with this head are times, which differ between runs.

A column whose head starts with "ms", `Section.timings`, and a `Picture` or `Plot` with `timed` are times, too.
"""


@attrs.frozen(eq=False)
class Found:
    """The results of one run of an analysis.

    Arguments:
        section: the returned section.
        files: content of each file in its folder, by name.
        elsewhere: files that were written outside the folder.
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
    """Return the first evaluation that the analysis supports."""
    made = subjects(images, backbone).values()
    reasons = {}
    for subject in made:
        reasons[subject.name] = recipe.unsupported(subject.evaluation())
        if not reasons[subject.name]:
            return subject
    seen = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    fix = "return None from `unsupported` if the analysis can run, or pass a suitable model to cases(…, backbone=…)"
    expect(False, "an analysis that supports one of the small models", seen, fix)
    raise AssertionError


@functools.lru_cache(maxsize=1)
def _found(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> Found:
    """Run the analysis once for all checks."""
    subject = _supported(recipe, images, backbone)
    try:
        return _run(recipe, subject.evaluation())
    except HebmError as error:
        fix = "use options that suit 48 to 64 images, or return the reason from `unsupported`"
        expect(False, "a section for a small model", f"{type(error).__name__}: {error} ({subject.name})", fix)
        raise


def check_unsupported(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `unsupported` returns None or a reason in words, and None for at least one small model.

    It must never raise.
    """
    for subject in subjects(images, backbone).values():
        try:
            reason: Any = recipe.unsupported(subject.evaluation())
        except Exception as error:
            seen = f"{type(error).__name__}: {error} ({subject.name})"
            expect(
                False,
                "a reason or None from `unsupported`",
                seen,
                "test with isinstance and getattr, and return a reason",
            )
        words = reason is None or (isinstance(reason, str) and len(reason.split()) > 2)
        fix = "return a reason for the user, such as 'its prior runs no chain', or None"
        expect(
            words, "None, or a reason of at least three words, from `unsupported`", f"{reason!r} ({subject.name})", fix
        )
    _supported(recipe, images, backbone)


def check_section(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `run` returns a `Section` with a title and content, whose tables and curves are complete."""
    section = _found(recipe, images, backbone).section
    fix = "return hebm.analysis.section.Section(title, text, pictures, tables, numbers)"
    expect(isinstance(section, Section), "a Section from run", type(section).__name__, fix)
    expect(bool(section.title.strip()), "a section with a title", repr(section.title), fix)
    expect(
        bool(section.text or section.pictures or section.tables),
        "a section with text, pictures or tables",
        "none of them",
        fix,
    )
    uneven = [t.title for t in section.tables if any(len(row) != len(t.header) for row in t.rows)]
    expect(
        not uneven,
        "table rows as long as the header",
        f"other lengths in {', '.join(uneven)}",
        "use one text per column",
    )
    curves = [curve for plot in section.plots for curve in plot.curves]
    uneven = [curve.label for curve in curves if len(curve.x) != len(curve.y)]
    expect(
        not uneven, "curves with a y for each x", f"other lengths in {', '.join(uneven)}", "use None for an unknown y"
    )


def check_pictures(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that every picture is a PNG in the folder, named without a path, and has a title."""
    found = _found(recipe, images, backbone)
    for picture in found.section.pictures:
        fix = "write folder / NAME with hebm.report.grids or hebm.analysis.plots, and set `file` to NAME"
        expect(
            Path(picture.file).name == picture.file, "a picture's file name without folders", repr(picture.file), fix
        )
        expect(
            picture.file in found.files,
            f"the file {picture.file} in the folder",
            ", ".join(found.files) or "no file",
            fix,
        )
        expect(
            _is_png(found.files[picture.file]),
            f"{picture.file} is a PNG image",
            "another format, or a damaged file",
            fix,
        )
        expect(
            bool(picture.title.strip()), f"a title of {picture.file}", "none", "set `title` to what the picture shows"
        )


def _is_png(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            return opened.format == "PNG"
    except (UnidentifiedImageError, OSError):
        return False


def check_stored(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that the section can be written to `section.json` and read unchanged, and that hebm alone writes it."""
    found = _found(recipe, images, backbone)
    expect(
        FILE not in found.files,
        f"no file {FILE}, because hebm writes it",
        f"the analysis wrote {FILE}",
        "only return the section",
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            found.section.write(Path(folder), {})
            read = read_section(Path(folder))
        except (TypeError, ValueError, AttributeError, CheckpointError) as error:
            fix = "use tuples of texts, cells that are texts, and numbers that JSON can hold"
            expect(False, "a section that can be written to JSON and read", f"{type(error).__name__}: {error}", fix)
        wanted = json.loads(json.dumps(finite(attrs.asdict(found.section))))
        same = json.loads(json.dumps(finite(attrs.asdict(read)))) == wanted
        expect(
            same,
            "an equal section, written and read",
            "a different one",
            "use tuples of texts, and cells that are texts",
        )


def check_folder(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that the analysis writes only into the folder that it is given."""
    elsewhere = _found(recipe, images, backbone).elsewhere
    expect(
        not elsewhere,
        "files only in the given folder",
        f"it also wrote {', '.join(elsewhere)}",
        "write to folder / NAME",
    )


def check_repeats(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that an equal evaluation gives an equal section and equal files, apart from times (see `TIMES`)."""
    first = _found(recipe, images, backbone)
    again = _run(recipe, _supported(recipe, images, backbone).evaluation())
    fix = (
        "draw through the evaluation, or from a Noise with its seed; name times 'seconds', describe them in `timings`, "
        "and mark their pictures and plots as `timed`"
    )
    same = _without_times(first.section) == _without_times(again.section)
    expect(same, "an equal section from an equal evaluation", "a different one", fix)
    one, other = _untimed_files(first), _untimed_files(again)
    differing = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    expect(not differing, "equal files from an equal evaluation", f"different files: {', '.join(differing)}", fix)


def _without_times(section: Section) -> str:
    """Return the content of a section without times, as text."""
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
    """Return the content of files, without pictures of times and without columns of times in CSV files."""
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
    """Check that the analysis uses no global generator."""
    evaluation = _supported(recipe, images, backbone).evaluation()
    with no_global_randomness("the analysis"):
        _run(recipe, evaluation)


def check_leaves_the_model(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that the analysis leaves the model's weights, modes and gradients unchanged."""
    evaluation = _supported(recipe, images, backbone).evaluation()
    with unchanged("an analysis", backbone=evaluation.model.backbone, prior=evaluation.model.prior):
        _run(recipe, evaluation)


def check_supported(recipe: AnalysisRecipe, images: ImageSpec, backbone: Backbone | None) -> None:
    """Check that `run` returns a section, or raises a `HebmError`, wherever `unsupported` returns None.

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
            expect(
                False, "a section, or a HebmError", seen, "return the reason from `unsupported`, or raise ConfigError"
            )
        expect(isinstance(found.section, Section), "a section", repr(found.section)[:80], "return a Section")
