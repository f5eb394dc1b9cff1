"""The kit can fail for checkpoint formats: each broken one is caught by the check that names its promise."""

import io
from argparse import Namespace

import attrs
import pytest
import torch
from catching import catching, expect_caught, names_of

from hebm.config.experiment import Experiment
from hebm.config.recipes import recipe
from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec
from hebm.porting import CheckpointFormat, ConvertedCheckpoint, ForeignFile, only_file
from hebm.testing import ConformanceError, check_format
from hebm_plugins.two_layer.recipe import TwoLayer

IMAGES = ImageSpec(1, 8, 8)
SIZES = {"z_dims": [2, 3], "widths": [4], "generator": "mlp", "inference_width": 4, "prior_width": 4}
NEEDED = {"net", "sizes", "step", "extra"}


def experiment_of(sizes, steps=3):
    backbone = {"type": "two-layer", **sizes}
    table = {"data": {"type": "digits"}, "backbone": backbone, "prior": {"type": "gaussian"}}
    table["train"] = {"type": "two-phase", "backbone": {"steps": steps}}
    try:
        return Experiment.from_table(table)
    except ConfigError as error:
        raise CheckpointError(f"not a checkpoint of this format: {error}") from error


def require(kept, reason):
    if not kept:
        raise CheckpointError(f"not a checkpoint of this format: {reason}")


class Sound(CheckpointFormat):
    """A two-layer model's weights, under names with a prefix."""

    allowed = (Namespace,)

    def example(self):
        return experiment_of(SIZES), IMAGES

    def read(self, files):
        return self.converted(only_file(files).content)

    def write(self, converted):
        return ForeignFile("sound.pt", self.content(converted))

    def converted(self, content):
        require(type(content) is dict and set(content) == NEEDED, "other keys")
        net, sizes, step = content["net"], content["sizes"], content["step"]
        require(type(net) is dict and all(torch.is_tensor(value) for value in net.values()), "no weights")
        require(type(sizes) is Namespace and set(vars(sizes)) == set(SIZES), "no sizes")
        require(all(type(value) is type(SIZES[key]) for key, value in vars(sizes).items()), "no sizes")
        require(type(step) is int and step >= 0, "no steps")
        left = {"extra": content["extra"], "order": list(content)}
        weights = {name.removeprefix("net."): value for name, value in net.items()}
        return ConvertedCheckpoint(experiment_of(vars(sizes), step), IMAGES, weights, step=step, leftovers=left)

    def content(self, converted):
        require(isinstance(converted.experiment.backbone, TwoLayer), "another backbone")
        net = {f"net.{name}": value for name, value in converted.backbone.items()}
        left = converted.leftovers or {"extra": None, "order": ["net", "sizes", "step", "extra"]}
        content = {"net": net, "sizes": Namespace(**SIZES), "step": converted.step, "extra": left["extra"]}
        return {key: content[key] for key in left["order"]}


class NoExample(Sound):
    def example(self):
        return None


class OnlyAnExperiment(Sound):
    def example(self):
        return experiment_of(SIZES)


def changed(converted, **fields):
    return ConvertedCheckpoint(
        **{
            "experiment": converted.experiment,
            "images": converted.images,
            "backbone": converted.backbone,
            "step": converted.step,
            "leftovers": converted.leftovers,
            **fields,
        }
    )


class Scales(Sound):
    """Reads half of what it writes, and writes twice what it reads."""

    def converted(self, content):
        found = super().converted(content)
        return changed(found, backbone={name: value / 2 for name, value in found.backbone.items()})

    def content(self, converted):
        twice = {name: value * 2 for name, value in converted.backbone.items()}
        return super().content(changed(converted, backbone=twice if converted.leftovers else converted.backbone))


class ForgetsTheSteps(Sound):
    def converted(self, content):
        found = super().converted(content)
        left = {**found.leftovers, "step": found.step}
        return changed(found, experiment=experiment_of(SIZES, 0), step=0, leftovers=left)

    def content(self, converted):
        content = super().content(converted)
        return content if converted.leftovers is None else {**content, "step": converted.leftovers["step"]}


class TrainsOn(Sound):
    """Its experiment has more steps than the file, so an imported run would not be finished."""

    def converted(self, content):
        found = super().converted(content)
        return changed(found, experiment=experiment_of(SIZES, found.step + 1))


class Reorders(Sound):
    def content(self, converted):
        content = super().content(converted)
        return content if converted.leftovers is None else dict(reversed(content.items()))


class Rounds(Sound):
    def content(self, converted):
        content = super().content(converted)
        if converted.leftovers is not None:
            content["net"] = {name: value.half().float() for name, value in content["net"].items()}
        return content


class KeepsAnObject(Sound):
    def converted(self, content):
        found = super().converted(content)
        return changed(found, leftovers={**found.leftovers, "sizes": content["sizes"]})


class OtherImages(Sound):
    def converted(self, content):
        found = super().converted(content)
        return (
            changed(found, images=ImageSpec(1, 8, 8, binary=True))
            if False
            else changed(found, images=ImageSpec(1, 4, 16))
        )


@recipe
class Unregistered(TwoLayer):
    """A two-layer model under no name."""


class NoTOML(Sound):
    def converted(self, content):
        found = super().converted(content)
        sizes = {key: getattr(found.experiment.backbone, key) for key in SIZES}
        return changed(found, experiment=attrs.evolve(found.experiment, backbone=Unregistered(**sizes)))


class Pops(Sound):
    def converted(self, content):
        found = super().converted(content)
        content.pop("extra")
        return found


class ScalesInPlace(Sound):
    def content(self, converted):
        content = super().content(converted)
        if converted.leftovers is not None:
            content["net"] = {name: value.clone() for name, value in content["net"].items()}
            next(iter(converted.backbone.values())).add_(1)
        return content


class Trusts(Sound):
    def converted(self, content):
        if isinstance(content, dict) and "net" not in content:
            return super().converted({"net": content["weights"], **content})
        return super().converted(content)


class TakesAnyStep(Sound):
    def converted(self, content):
        if isinstance(content, dict) and set(content) == NEEDED and content["step"] is None:
            raise TypeError("steps must be a number")
        return super().converted(content)


class FillsIn(Sound):
    """Takes what is missing from a new model."""

    def converted(self, content):
        found = super().converted(content)
        whole = TwoLayer(**{k: tuple(v) if isinstance(v, list) else v for k, v in SIZES.items()}).build(IMAGES)
        known = whole.state_dict()
        fitting = {k: v for k, v in found.backbone.items() if k in known and known[k].shape == v.shape}
        return changed(found, backbone={**known, **fitting})


class Unpacks(Sound):
    """Takes for granted that there is one file."""

    def read(self, files):
        (file,) = files
        return self.converted(file.content)


class NeedsNoFile(Sound):
    def read(self, files):
        return super().read(files) if files else changed(super().read((self.write(self.run()),)))

    def run(self):
        return ConvertedCheckpoint(experiment_of(SIZES), IMAGES, TwoLayer(z_dims=(2, 3)).build(IMAGES).state_dict())


class WritesAnything(Sound):
    def content(self, converted):
        net = {f"net.{name}": value for name, value in converted.backbone.items()}
        left = converted.leftovers or {"extra": None, "order": ["net", "sizes", "step", "extra"]}
        content = {"net": net, "sizes": Namespace(**SIZES), "step": converted.step, "extra": left["extra"]}
        return {key: content[key] for key in left["order"]}


class AllowsAFunction(Sound):
    allowed = (Namespace, print)


class AllowsAFile(Sound):
    allowed = (Namespace, io.BytesIO)


WITHOUT_EXAMPLE = names_of(recipe(type("Made", (Sound,), {"__doc__": "…"}))()) - {"example", "allowed"}

CONTROLS = [
    (NoExample, "example", WITHOUT_EXAMPLE),
    (OnlyAnExperiment, "example", WITHOUT_EXAMPLE),
    (Scales, "weights", ()),
    (ForgetsTheSteps, "weights", ()),
    (Reorders, "round-trip-of-a-file", ()),
    (Rounds, "round-trip-of-a-file", ()),
    (KeepsAnObject, "leftovers", ("pure",)),
    (OtherImages, "experiment", ("damage", "garbage", "weights")),
    (NoTOML, "experiment", ()),
    (TrainsOn, "experiment", ()),
    (Pops, "pure", ()),
    (ScalesInPlace, "pure", ()),
    (Trusts, "garbage", ()),
    (TakesAnyStep, "garbage", ()),
    (FillsIn, "damage", ()),
    (Unpacks, "several-files", ()),
    (NeedsNoFile, "several-files", ()),
    (WritesAnything, "another-backbone", ()),
    (AllowsAFunction, "allowed", ()),
    (AllowsAFile, "allowed", ()),
]


def of(kind):
    """A recipe of the class."""
    return recipe(type("Made", (kind,), {"__doc__": "A format."}))()


@pytest.mark.parametrize(("kind", "name", "also"), CONTROLS, ids=[f"{c[0].__name__}-{c[1]}" for c in CONTROLS])
def test_the_named_check_alone_catches(kind, name, also):
    expect_caught(of(kind), name, also)


def test_the_sound_original_passes():
    assert catching(of(Sound)) == set()


def test_a_format_without_an_example_is_told_how_to_give_one():
    with pytest.raises(ConformanceError, match=r"override example\(\), and return"):
        check_format(of(NoExample))


def test_every_check_has_a_control():
    assert names_of(of(Sound)) == {name for _, name, _ in CONTROLS}
