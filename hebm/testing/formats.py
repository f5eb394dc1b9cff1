"""Checks of a checkpoint format. Every check is called with a recipe, and writes and reads its `example`."""

from __future__ import annotations

from typing import Any

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
from hebm.store.trees import flatten, rebuild
from hebm.testing.contents import difference
from hebm.testing.format_subjects import STEPS, content_of, example_of, files_of, read_by, through_a_file, written_by
from hebm.testing.promises import expect
from hebm.testing.subjects import ReferenceBackbone


@make_recipe
class Other(BackboneRecipe):
    """A backbone that no published code contains."""

    @override
    def build(self, images: ImageSpec) -> Backbone:
        return ReferenceBackbone(images=images)


def check_example(recipe: CheckpointFormat) -> None:
    """Check that `example` returns an experiment and its images, and that `write` can write them."""
    example_of(recipe)


def check_weights(recipe: CheckpointFormat) -> None:
    """Check that `read` returns the weights and the number of steps that `write` was given."""
    example = example_of(recipe)
    found, backbone = read_by(recipe, content_of(recipe))
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
    file = through_a_file(recipe, example_of(recipe).file)
    back = written_by(recipe, example_of(recipe).reader.read((through_a_file(recipe, file),)))
    found = difference(file.content, through_a_file(recipe, back).content)
    fix = "keep everything in the file except weights as `leftovers`, in its order"
    expect(found is None, "the same content after read() and write()", str(found), fix)


def check_leftovers(recipe: CheckpointFormat) -> None:
    """Check that `leftovers` are plain values and tensors, which a run folder can store."""
    left = example_of(recipe).reader.read(files_of(recipe, content_of(recipe))).leftovers
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
    example = example_of(recipe)
    found = example_of(recipe).reader.read(files_of(recipe, content_of(recipe)))
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
    content = content_of(recipe)
    found = example_of(recipe).reader.read(files_of(recipe, content))
    seen = difference(content_of(recipe), content)
    expect(seen is None, "read() does not change its argument", str(seen), "copy values before you change them")
    before = flatten(attrs.asdict(found, recurse=False) | {"experiment": None, "images": None})[0]
    weights = {name: tensor.clone() for name, tensor in found.backbone.items()}
    recipe.write(found)
    after = flatten(attrs.asdict(found, recurse=False) | {"experiment": None, "images": None})[0]
    same = before == after and difference(weights, dict(found.backbone)) is None
    expect(same, "write() does not change its argument", "it was changed", "copy values before you change them")


def check_another_backbone(recipe: CheckpointFormat) -> None:
    """Check that `write` raises `CheckpointError` for a backbone that the other code does not have."""
    example = example_of(recipe)
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
