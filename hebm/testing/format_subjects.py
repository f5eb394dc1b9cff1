"""The example of a checkpoint format, written and read as `hebm export` and `hebm import` do."""

from __future__ import annotations

import copy
import functools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hebm.building import build
from hebm.config.experiment import Experiment
from hebm.interfaces import Backbone, ImageSpec
from hebm.porting import CheckpointFormat, ConvertedCheckpoint, ForeignFile
from hebm.store import foreign
from hebm.testing.promises import expect
from hebm.testing.subjects import perturbed
from hebm.training.state import load_module

STEPS = 3
"""Number of training steps of the example."""


class Example(NamedTuple):
    """A format's example.

    Arguments:
        converted: a run with random weights.
        backbone: the backbone of the run.
        file: the file that the format writes for the run.
        reader: the format with the options that reading the file needs.
    """

    converted: ConvertedCheckpoint
    backbone: Backbone
    file: ForeignFile
    reader: CheckpointFormat


@functools.lru_cache(maxsize=1)
def example_of(recipe: CheckpointFormat) -> Example:
    """Return the example of a format, with random weights, and the file that the format writes for it."""
    given: Any = recipe.example()
    fix = "override example(), and return a small Experiment that the format can write, and an ImageSpec"
    pair = isinstance(given, tuple) and len(given) == 2
    kept = pair and isinstance(given[0], Experiment) and isinstance(given[1], ImageSpec)
    expect(kept, "(Experiment, ImageSpec) from example()", repr(given)[:80], fix)
    experiment, images = given
    backbone = perturbed(build(experiment, images).backbone)
    converted = ConvertedCheckpoint(experiment, images, backbone.state_dict(), step=STEPS)
    file, reader = written_by(recipe, converted), recipe.reading(converted)
    kept = type(reader) is type(recipe)
    expect(kept, "the same format from reading()", repr(reader)[:80], "return attrs.evolve(self, …)")
    return Example(converted, backbone, file, reader)


def written_by(recipe: CheckpointFormat, converted: ConvertedCheckpoint) -> ForeignFile:
    """Return the file that a format writes, with a name that a folder can have."""
    file = recipe.write(converted)
    seen: Any = getattr(file, "name", file)
    named = isinstance(file, ForeignFile) and isinstance(seen, str) and Path(seen).name == seen
    fix = 'return ForeignFile("checkpoint.pt", content)'
    expect(named, "a ForeignFile with a file name from write()", repr(seen)[:80], fix)
    return file


def content_of(recipe: CheckpointFormat) -> Any:
    """Return a copy of the example's content, because a format may change its argument."""
    return copy.deepcopy(example_of(recipe).file.content)


def files_of(recipe: CheckpointFormat, content: Any) -> tuple[ForeignFile, ...]:
    """Return a content as the one file of a checkpoint, under the name that the format gave to its example."""
    return (ForeignFile(example_of(recipe).file.name, content),)


def through_a_file(recipe: CheckpointFormat, file: ForeignFile) -> ForeignFile:
    """Write a file and read it, as `hebm export` and `hebm import` do."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file.name
        foreign.save(file.content, path)
        return ForeignFile(file.name, foreign.load(path, recipe.allowed))


def read_by(recipe: CheckpointFormat, content: Any) -> tuple[ConvertedCheckpoint, nn.Module]:
    """Read a content, and load it into the backbone that its experiment describes."""
    found: Any = example_of(recipe).reader.read(files_of(recipe, content))
    kind = type(found).__name__
    expect(
        isinstance(found, ConvertedCheckpoint),
        "a ConvertedCheckpoint from read()",
        kind,
        "return a ConvertedCheckpoint",
    )
    backbone = build(found.experiment, found.images).backbone
    parameters = dict(backbone.named_parameters())
    buffers = {name: value for name, value in backbone.state_dict().items() if name not in parameters}
    load_module(backbone, {**buffers, **found.backbone}, "backbone")
    return found, backbone
