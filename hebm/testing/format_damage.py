"""Checks of a checkpoint format on damaged files and files of another kind. Every check is called with a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from hebm.errors import CheckpointError
from hebm.porting import CheckpointFormat, ConvertedCheckpoint, ForeignFile
from hebm.testing.contents import altered, replaced, tensors_in
from hebm.testing.format_subjects import content_of, example_of, files_of, read_by
from hebm.testing.promises import expect


def check_garbage(recipe: CheckpointFormat) -> None:
    """Check that `read` raises `CheckpointError` for content of another kind or that is damaged beyond use."""
    content = content_of(recipe)
    fix = "check types and shapes before use, and raise a CheckpointError that says what is wrong"
    for what, other in _strangers():
        try:
            example_of(recipe).reader.read(files_of(recipe, other))
        except CheckpointError:
            continue
        except Exception as error:
            expect(False, f"CheckpointError for {what}", f"{type(error).__name__}: {error}", fix)
        expect(False, f"CheckpointError for {what}", "no error", fix)
    for what, damaged in altered(content):
        try:
            read_by(recipe, damaged)
        except CheckpointError:
            continue
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
            expect(False, f"a backbone, or CheckpointError, for {what}", seen, fix)


def check_several_files(recipe: CheckpointFormat) -> None:
    """Check that `read` converts, or refuses with `CheckpointError`, no file, a file twice, and a text file with it."""
    name = example_of(recipe).file.name
    fix = "call hebm.porting.only_file(files), or tell the files apart by name and content"
    for what, files in (
        ("no file", ()),
        ("the same file twice", (*files_of(recipe, content_of(recipe)), *files_of(recipe, content_of(recipe)))),
        ("a text file with the checkpoint", (*files_of(recipe, content_of(recipe)), ForeignFile("log.jsonl", "[1\n"))),
        ("another file with the checkpoint", (ForeignFile(f"2-{name}", None), *files_of(recipe, content_of(recipe)))),
    ):
        try:
            found: Any = example_of(recipe).reader.read(files)
        except CheckpointError:
            continue
        except Exception as error:
            expect(False, f"a backbone, or CheckpointError, for {what}", f"{type(error).__name__}: {error}", fix)
        expect(bool(files), "CheckpointError for no file", "no error", fix)
        seen = type(found).__name__
        expect(isinstance(found, ConvertedCheckpoint), f"a ConvertedCheckpoint for {what}", seen, fix)


def check_damage(recipe: CheckpointFormat) -> None:
    """Check that content with a missing, misshapen or surplus weight raises `CheckpointError`."""
    content = content_of(recipe)
    weights = tensors_in(content)
    expect(bool(weights), "a mapping of weights in the content", "no tensors", "write the weights")
    path, found = max(weights, key=lambda of: len(of[1]))
    kind: Any = type(found)
    name = next(iter(found))
    other = torch.full((*found[name].shape, 2), math.pi)
    for what, changed in (
        (f"a content without {name!r}", {k: v for k, v in found.items() if k != name}),
        (f"another shape of {name!r}", {**found, name: other}),
        ("a surplus weight", {**found, "no-such-weight": other}),
    ):
        damaged = replaced(content, path, kind(changed))
        try:
            read_by(recipe, damaged)
        except CheckpointError:
            continue
        fix = "compare names and shapes with those of the backbone, and list all that do not fit"
        expect(False, f"CheckpointError for {what}", "no error", fix)


def _strangers() -> Iterator[tuple[str, Any]]:
    """Yield contents that belong to no format, with descriptions."""
    yield from (("nothing", None), ("a number", 7), ("a text", "text"), ("bytes", b"\x80\x04"))
    yield from (("an empty list", []), ("an empty dict", {}), ("a tensor", torch.zeros(2, 3)))
    yield "weights of something else", {"weight": torch.zeros(2, 3)}
    yield "an empty state dict", {"state_dict": {}, "step": "many"}
    yield "numbers as keys", {1: torch.zeros(1), None: []}
