"""What a checkpoint format promises. Every check is called with a recipe, whose `example` is written and read."""

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
from hebm.testing.promises import promise
from hebm.testing.subjects import ReferenceBackbone, perturbed
from hebm.training.state import load_module

STEPS = 3
"""Training steps of the example."""


class Example(NamedTuple):
    """A format's example.

    Arguments:
        converted: a run with random weights.
        backbone: its backbone.
        content: as the format writes it.
    """

    converted: ConvertedCheckpoint
    backbone: Backbone
    content: Any


@make_recipe
class Other(BackboneRecipe):
    """A backbone that no published code has."""

    @override
    def build(self, images: ImageSpec) -> Backbone:
        return ReferenceBackbone(images=images)


@functools.lru_cache(maxsize=1)
def _example(recipe: CheckpointFormat) -> Example:
    given: Any = recipe.example()
    fix = "override example() of the format: return a small Experiment that it can write, and an ImageSpec"
    pair = isinstance(given, tuple) and len(given) == 2
    kept = pair and isinstance(given[0], Experiment) and isinstance(given[1], ImageSpec)
    promise(kept, "an example, (Experiment, ImageSpec)", repr(given)[:80], fix)
    experiment, images = given
    backbone = perturbed(build(experiment, images).backbone)
    converted = ConvertedCheckpoint(experiment, images, backbone.state_dict(), step=STEPS)
    return Example(converted, backbone, recipe.write(converted))


def _content(recipe: CheckpointFormat) -> Any:
    """Return a copy of the example's content: a format may change what it is given."""
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
    promise(isinstance(found, ConvertedCheckpoint), "a ConvertedCheckpoint", kind, "return one from read()")
    backbone = build(found.experiment, found.images).backbone
    parameters = dict(backbone.named_parameters())
    buffers = {name: value for name, value in backbone.state_dict().items() if name not in parameters}
    load_module(backbone, {**buffers, **found.backbone}, "backbone")
    return found, backbone


def check_example(recipe: CheckpointFormat) -> None:
    """`example` gives an experiment and its images, and `write` can express them."""
    _example(recipe)


def check_weights(recipe: CheckpointFormat) -> None:
    """The backbone that is built from what `read` gives has the weights and the steps that were written."""
    example = _example(recipe)
    found, backbone = _read(recipe, _content(recipe))
    written = dict(example.backbone.named_parameters())
    read = dict(backbone.named_parameters())
    fix = "map every name to its own, and transpose or rescale nothing on one way alone"
    same = written.keys() == read.keys()
    promise(same, "the same parameters", f"others: {', '.join(sorted(written.keys() ^ read.keys())[:4])}", fix)
    differing = [name for name in written if not torch.equal(written[name], read[name])]
    promise(not differing, "the same weights, bit for bit", f"others in {', '.join(differing[:4])}", fix)
    promise(found.step == STEPS, f"{STEPS} training steps", str(found.step), "write and read the number of steps")


def check_round_trip_of_a_file(recipe: CheckpointFormat) -> None:
    """What `read` gives of a file, `write` turns into the same content: types, order and every bit."""
    content = _through_a_file(recipe, _content(recipe))
    back = recipe.write(recipe.read(_through_a_file(recipe, content)))
    found = difference(content, _through_a_file(recipe, back))
    fix = "keep as `leftovers` all that the file holds besides weights, and its order"
    promise(found is None, "the same content, read and written", str(found), fix)


def check_leftovers(recipe: CheckpointFormat) -> None:
    """`leftovers` are plain values and tensors, as a run folder keeps them."""
    left = recipe.read(_content(recipe)).leftovers
    fix = "keep numbers, texts, tensors, and lists, tuples, dicts and sets of such"
    try:
        kept = rebuild(*flatten(left))
    except CheckpointError as error:
        promise(False, "leftovers that can be kept", str(error), fix)
    found = difference(left, kept)
    promise(found is None, "equal leftovers, kept and read", str(found), fix)


def check_experiment(recipe: CheckpointFormat) -> None:
    """The experiment that `read` gives goes to TOML and back, and its images are those of the example."""
    example = _example(recipe)
    found = recipe.read(_content(recipe))
    try:
        again = Experiment.from_toml(found.experiment.to_toml(), "config.toml")
    except HebmError as error:
        promise(False, "an experiment that goes to TOML", str(error), "make it by Experiment.from_table")
    promise(again == found.experiment, "an equal experiment after TOML", "another one", "use registered recipes")
    shape, wanted = found.images.shape, example.converted.images.shape
    promise(shape == wanted, f"images of shape {wanted}", str(shape), "return the ImageSpec the file was trained on")
    try:
        require_trained("of this kind", found, build(found.experiment, found.images))
    except HebmError as error:
        fix = "set the steps of the training scheme to the step of the file: an imported run is a finished one"
        promise(False, "an experiment whose training is over at the step of the file", str(error), fix)


def check_pure(recipe: CheckpointFormat) -> None:
    """`read` leaves the content as it is, `write` the run."""
    content = _content(recipe)
    found = recipe.read(content)
    seen = difference(_content(recipe), content)
    promise(seen is None, "read() leaves the content unchanged", str(seen), "copy what you change")
    before = flatten(attrs.asdict(found, recurse=False) | {"experiment": None, "images": None})[0]
    weights = {name: tensor.clone() for name, tensor in found.backbone.items()}
    recipe.write(found)
    after = flatten(attrs.asdict(found, recurse=False) | {"experiment": None, "images": None})[0]
    same = before == after and difference(weights, dict(found.backbone)) is None
    promise(same, "write() leaves what it is given unchanged", "it was changed", "copy what you change")


def check_garbage(recipe: CheckpointFormat) -> None:
    """A content of another kind is a `CheckpointError`; a damaged one too, if it cannot be used."""
    content = _content(recipe)
    fix = "check types and shapes before use, and raise CheckpointError with what is wrong"
    for what, other in _strangers():
        try:
            recipe.read(other)
        except CheckpointError:
            continue
        except Exception as error:
            promise(False, f"CheckpointError for {what}", f"{type(error).__name__}: {error}", fix)
        promise(False, f"CheckpointError for {what}", "it was read", fix)
    for what, damaged in altered(content):
        try:
            _read(recipe, damaged)
        except CheckpointError:
            continue
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
            promise(False, f"the content, or CheckpointError, for {what}", seen, fix)


def check_damage(recipe: CheckpointFormat) -> None:
    """A content that lacks a weight, has one of another shape, or one too many, is a `CheckpointError`."""
    content = _content(recipe)
    weights = tensors_in(content)
    promise(bool(weights), "a mapping of weights", "no tensors", "write the weights")
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
        fix = "compare names and shapes with the backbone's, and list all that does not fit"
        promise(False, f"CheckpointError for {what}", "it was read", fix)


def _strangers() -> Iterator[tuple[str, Any]]:
    """Yield contents that are of no format, with what to call them."""
    yield from (("nothing", None), ("a number", 7), ("a text", "text"), ("bytes", b"\x80\x04"))
    yield from (("an empty list", []), ("an empty dict", {}), ("a tensor", torch.zeros(2, 3)))
    yield "weights of something else", {"weight": torch.zeros(2, 3)}
    yield "an empty state dict", {"state_dict": {}, "step": "many"}
    yield "numbers as keys", {1: torch.zeros(1), None: []}


def check_another_backbone(recipe: CheckpointFormat) -> None:
    """`write` of a run whose backbone the other code does not have is a `CheckpointError`."""
    example = _example(recipe)
    experiment = attrs.evolve(example.converted.experiment, backbone=Other())  # type: ignore[misc]
    backbone = build(experiment, example.converted.images).backbone
    run = ConvertedCheckpoint(experiment, example.converted.images, backbone.state_dict(), step=STEPS)
    fix = "check the experiment's backbone first"
    try:
        recipe.write(run)
    except CheckpointError:
        return
    except Exception as error:
        promise(False, "CheckpointError for another backbone", f"{type(error).__name__}: {error}", fix)
    promise(False, "CheckpointError for another backbone", "it was written", fix)


def check_allowed(recipe: CheckpointFormat) -> None:
    """`allowed` has classes alone, none of which does anything when it is constructed: no file can run code."""
    allowed: Any = type(recipe).allowed
    functions = [repr(kind) for kind in allowed if not isinstance(kind, type)]
    fix = "name classes that only hold values, such as argparse.Namespace"
    promise(not functions, "classes", ", ".join(functions), fix)
    dangerous = [kind.__name__ for kind in allowed if kind.__module__ in DANGEROUS or issubclass(kind, nn.Module)]
    promise(not dangerous, "classes that hold values", ", ".join(dangerous), fix)


DANGEROUS = ("_io", "builtins", "importlib", "io", "os", "pathlib", "pickle", "shutil", "socket", "subprocess", "types")
"""Modules of classes that act, or that lead to others which do."""
