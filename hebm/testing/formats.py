"""Checks of a checkpoint format. Every check is called with a recipe, and writes and reads its `example`."""

from __future__ import annotations

import copy
import functools
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import torch
from torch import nn
from typing_extensions import override

from hebm.building import build
from hebm.config.experiment import Experiment
from hebm.config.recipes import recipe as make_recipe
from hebm.errors import CheckpointError, HebmError
from hebm.interfaces import Backbone, BackboneRecipe, ImageSpec
from hebm.porting import CheckpointFormat, ConvertedCheckpoint, require_trained
from hebm.store import foreign
from hebm.store.trees import flatten, rebuild
from hebm.testing.contents import altered, difference, replaced, tensors_in
from hebm.testing.promises import expect
from hebm.testing.subjects import ReferenceBackbone, perturbed
from hebm.training.state import load_module

STEPS = 3
"""Number of training steps of the example."""


class Example(NamedTuple):
    """A format's example.

    Arguments:
        converted: a run with random weights.
        backbone: the backbone of the run.
        content: the content that the format writes for the run.
    """

    converted: ConvertedCheckpoint
    backbone: Backbone
    content: Any


@make_recipe
class Other(BackboneRecipe):
    """A backbone that no published code contains."""

    @override
    def build(self, images: ImageSpec) -> Backbone:
        return ReferenceBackbone(images=images)


@functools.lru_cache(maxsize=1)
def _example(recipe: CheckpointFormat) -> Example:
    given: Any = recipe.example()
    fix = "override example(), and return a small Experiment that the format can write, and an ImageSpec"
    pair = isinstance(given, tuple) and len(given) == 2
    kept = pair and isinstance(given[0], Experiment) and isinstance(given[1], ImageSpec)
    expect(kept, "(Experiment, ImageSpec) from example()", repr(given)[:80], fix)
    experiment, images = given
    backbone = perturbed(build(experiment, images).backbone)
    converted = ConvertedCheckpoint(experiment, images, backbone.state_dict(), step=STEPS)
    return Example(converted, backbone, recipe.write(converted))


def _content(recipe: CheckpointFormat) -> Any:
    """Return a copy of the example's content, because a format may change its argument."""
    return copy.deepcopy(_example(recipe).content)


def _through_a_file(recipe: CheckpointFormat, content: Any) -> Any:
    """Write a content to a file and read it, as `hebm export` and `hebm import` do."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        foreign.save(content, path)
        return foreign.load(path, recipe.allowed)


def _read(recipe: CheckpointFormat, content: Any) -> tuple[ConvertedCheckpoint, nn.Module]:
    """Read a content, and load it into the backbone that its experiment describes."""
    found: Any = recipe.read(content)
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


def check_example(recipe: CheckpointFormat) -> None:
    """Check that `example` returns an experiment and its images, and that `write` can write them."""
    _example(recipe)


def check_weights(recipe: CheckpointFormat) -> None:
    """Check that `read` returns the weights and the number of steps that `write` was given."""
    example = _example(recipe)
    found, backbone = _read(recipe, _content(recipe))
    written = dict(example.backbone.named_parameters())
    read = dict(backbone.named_parameters())
    fix = "map names one to one, and invert in write() whatever read() transposes or rescales"
    same = written.keys() == read.keys()
    expect(
        same,
        "the same parameters after write() and read()",
        f"only in one of them: {', '.join(sorted(written.keys() ^ read.keys())[:4])}",
        fix,
    )
    differing = [name for name in written if not torch.equal(written[name], read[name])]
    expect(
        not differing,
        "the same weights after write() and read(), bit for bit",
        f"others in {', '.join(differing[:4])}",
        fix,
    )
    expect(
        found.step == STEPS,
        f"{STEPS} training steps after write() and read()",
        str(found.step),
        "write and read the number of steps",
    )


def check_round_trip_of_a_file(recipe: CheckpointFormat) -> None:
    """Check that reading a file and writing it again keeps types, order and every bit."""
    content = _through_a_file(recipe, _content(recipe))
    back = recipe.write(recipe.read(_through_a_file(recipe, content)))
    found = difference(content, _through_a_file(recipe, back))
    fix = "keep everything in the file except weights as `leftovers`, in its order"
    expect(found is None, "the same content after read() and write()", str(found), fix)


def check_leftovers(recipe: CheckpointFormat) -> None:
    """Check that `leftovers` are plain values and tensors, which a run folder can store."""
    left = recipe.read(_content(recipe)).leftovers
    fix = "use only numbers, texts, tensors, and lists, tuples, dicts and sets of these"
    try:
        kept = rebuild(*flatten(left))
    except CheckpointError as error:
        expect(False, "leftovers that a run folder can store", str(error), fix)
    found = difference(left, kept)
    expect(found is None, "equal leftovers after they were stored", str(found), fix)


def check_experiment(recipe: CheckpointFormat) -> None:
    """Check that the experiment from `read` can be written to TOML and read again, with the example's image shape.

    Its training must end at the step of the file.
    """
    example = _example(recipe)
    found = recipe.read(_content(recipe))
    try:
        again = Experiment.from_toml(found.experiment.to_toml(), "config.toml")
    except HebmError as error:
        expect(False, "an experiment that can be written to TOML", str(error), "create it by Experiment.from_table")
    expect(
        again == found.experiment,
        "an equal experiment, written to TOML and read",
        "a different one",
        "use registered recipes",
    )
    shape, wanted = found.images.shape, example.converted.images.shape
    expect(shape == wanted, f"images of shape {wanted}", str(shape), "return the ImageSpec of the training images")
    try:
        require_trained("of this kind", found, build(found.experiment, found.images))
    except HebmError as error:
        fix = "set the steps of the training scheme to the step of the file, because an imported run is finished"
        expect(False, "an experiment whose training ends at the step of the file", str(error), fix)


def check_pure(recipe: CheckpointFormat) -> None:
    """Check that `read` does not change the content, and `write` not the run."""
    content = _content(recipe)
    found = recipe.read(content)
    seen = difference(_content(recipe), content)
    expect(seen is None, "read() does not change its argument", str(seen), "copy values before you change them")
    before = flatten(attrs.asdict(found, recurse=False) | {"experiment": None, "images": None})[0]
    weights = {name: tensor.clone() for name, tensor in found.backbone.items()}
    recipe.write(found)
    after = flatten(attrs.asdict(found, recurse=False) | {"experiment": None, "images": None})[0]
    same = before == after and difference(weights, dict(found.backbone)) is None
    expect(same, "write() does not change its argument", "it was changed", "copy values before you change them")


def check_garbage(recipe: CheckpointFormat) -> None:
    """Check that `read` raises `CheckpointError` for content of another kind or that is damaged beyond use."""
    content = _content(recipe)
    fix = "check types and shapes before use, and raise a CheckpointError that says what is wrong"
    for what, other in _strangers():
        try:
            recipe.read(other)
        except CheckpointError:
            continue
        except Exception as error:
            expect(False, f"CheckpointError for {what}", f"{type(error).__name__}: {error}", fix)
        expect(False, f"CheckpointError for {what}", "no error", fix)
    for what, damaged in altered(content):
        try:
            _read(recipe, damaged)
        except CheckpointError:
            continue
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
            expect(False, f"a backbone, or CheckpointError, for {what}", seen, fix)


def check_damage(recipe: CheckpointFormat) -> None:
    """Check that content with a missing, misshapen or surplus weight raises `CheckpointError`."""
    content = _content(recipe)
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
            _read(recipe, damaged)
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


def check_another_backbone(recipe: CheckpointFormat) -> None:
    """Check that `write` raises `CheckpointError` for a backbone that the other code does not have."""
    example = _example(recipe)
    experiment = attrs.evolve(example.converted.experiment, backbone=Other())  # type: ignore[misc]
    backbone = build(experiment, example.converted.images).backbone
    run = ConvertedCheckpoint(experiment, example.converted.images, backbone.state_dict(), step=STEPS)
    fix = "in write(), check the type of the experiment's backbone first"
    try:
        recipe.write(run)
    except CheckpointError:
        return
    except Exception as error:
        expect(False, "CheckpointError for another backbone", f"{type(error).__name__}: {error}", fix)
    expect(False, "CheckpointError for another backbone", "no error", fix)


def check_allowed(recipe: CheckpointFormat) -> None:
    """Check that `allowed` lists only classes that do nothing when constructed, so that no file can run code."""
    allowed: Any = type(recipe).allowed
    functions = [repr(kind) for kind in allowed if not isinstance(kind, type)]
    fix = "name classes that only hold values, such as argparse.Namespace"
    expect(not functions, "only classes in `allowed`", ", ".join(functions), fix)
    dangerous = [kind.__name__ for kind in allowed if kind.__module__ in DANGEROUS or issubclass(kind, nn.Module)]
    expect(not dangerous, "only classes that hold values in `allowed`", ", ".join(dangerous), fix)


DANGEROUS = ("_io", "builtins", "importlib", "io", "os", "pathlib", "pickle", "shutil", "socket", "subprocess", "types")
"""Modules with classes that can run code, directly or through other classes."""
