"""The kit can fail for extractors: each broken one is caught by the check that names its promise."""

import pytest
import torch

from hebm import registry
from hebm.config.recipes import recipe
from hebm.errors import ConfigError
from hebm.evaluation.extractors import Extractor, ExtractorRecipe
from hebm.testing import ConformanceError, cases, check_extractor


class Sound(Extractor):
    """Mean and mean square of the pixels."""

    name = "under-test"
    widths = {"features": 2}
    sha256 = "ab" * 32

    def __call__(self, pixels):
        x = pixels.flatten(1).float() / 255
        return {"features": torch.stack([x.mean(1), x.square().mean(1)], dim=1)}


class Wide(Sound):
    widths = {"features": 3}


class Unnamed(Sound):
    widths = {"logits": 2}


class Double(Sound):
    def __call__(self, pixels):
        return {"features": super().__call__(pixels)["features"].double()}


class KeepsAGraph(Sound):
    def __call__(self, pixels):
        return {"features": super().__call__(pixels)["features"].requires_grad_()}


class DividesByZero(Sound):
    def __call__(self, pixels):
        return {"features": super().__call__(pixels)["features"] / 0}


class SaysMore(Sound):
    def __call__(self, pixels):
        found = super().__call__(pixels)
        return {**found, "logits": found["features"]}


class BatchNormed(Sound):
    def __call__(self, pixels):
        features = super().__call__(pixels)["features"]
        return {"features": features - features.mean(0)}


class Constant(Sound):
    def __call__(self, pixels):
        return {"features": torch.ones(len(pixels), 2)}


class Counts(Sound):
    calls = 0

    def __call__(self, pixels):
        self.calls += 1
        return {"features": super().__call__(pixels)["features"] + self.calls}


class DrawnAtLoading(Sound):
    def __init__(self):
        self.scale = 1 + torch.rand(1, generator=torch.Generator().manual_seed(len(made)))
        made.append(self)

    def __call__(self, pixels):
        return {"features": super().__call__(pixels)["features"] * self.scale}


class HashedAnew(Sound):
    def __init__(self):
        made.append(self)
        self.sha256 = f"{len(made):064}"


class Misnamed(Sound):
    name = "other"


class Unhashed(Sound):
    sha256 = "none"


class Undescribed(Sound):
    def describe(self):
        return {"name": self.name, "sha256": self.sha256}


class SaysNaN(Sound):
    def notes(self):
        return {"accuracy": float("nan")}


class GloballyRandom(Sound):
    def __call__(self, pixels):
        torch.rand(1)
        return super().__call__(pixels)


class OfItsData(Sound):
    """Weights that depend on the training images, under one hash."""

    def __init__(self, context):
        self.scale = 1 + len(context.images["train"]) / 100

    def __call__(self, pixels):
        return {"features": super().__call__(pixels)["features"] * self.scale}


class TrustsItsCache(Sound):
    """Weights that are read from the cache unchecked."""

    def __init__(self, context):
        file = context.cache / "scale.txt"
        if not file.exists():
            context.cache.mkdir(exist_ok=True)
            file.write_text("1.25")
        self.scale = float(file.read_text())

    def __call__(self, pixels):
        return {"features": super().__call__(pixels)["features"] * self.scale}


class GreyAlone(Sound):
    def __call__(self, pixels):
        return super().__call__(pixels.view(len(pixels), 8, 8))


class NeedsClasses(Sound):
    def __init__(self, context):
        self.widths = {"features": 2 if context.images["train"].classes else 3}


class InPlace(Sound):
    def __call__(self, pixels):
        found = super().__call__(pixels)
        pixels //= 1
        pixels[0, 0, 0, 0] += 1
        return found


class SwitchesGradientsOff(Sound):
    def __init__(self):
        torch.set_grad_enabled(False)


made = []


def of(kind, **attributes):
    """A recipe that makes an extractor of a class."""

    @recipe
    class Made(ExtractorRecipe):
        """Make an extractor that is broken in one way."""

        def build(self, context):
            return kind(context) if kind in OF_CONTEXT else kind()

    for name, value in attributes.items():
        setattr(Made, name, value)
    return Made()


OF_CONTEXT = (OfItsData, TrustsItsCache, NeedsClasses)

CONTROLS = [
    (OfItsData, "sha256"),
    (TrustsItsCache, "cache"),
    (GreyAlone, "other-images"),
    (NeedsClasses, "other-images"),
    (InPlace, "leaves-the-rest"),
    (SwitchesGradientsOff, "leaves-the-rest"),
    (Wide, "features"),
    (Unnamed, "features"),
    (Double, "features"),
    (KeepsAGraph, "features"),
    (DividesByZero, "features"),
    (SaysMore, "features"),
    (BatchNormed, "each-image-alone"),
    (Constant, "pixels-matter"),
    (Counts, "repeats"),
    (DrawnAtLoading, "repeats"),
    (HashedAnew, "repeats"),
    (Misnamed, "description"),
    (Unhashed, "description"),
    (Undescribed, "description"),
    (SaysNaN, "description"),
    (GloballyRandom, "no-global-rng"),
]


@pytest.fixture
def registered():
    """Registers the recipe under test."""

    def _registered(subject):
        registry.register("hebm_extractors", "under-test", type(subject))
        return subject

    yield _registered
    registry.unregister("hebm_extractors", "under-test")


def run(subject, name):
    (case,) = [case for case in cases(subject) if case.name == name]
    case()


@pytest.fixture(autouse=True)
def gradients():
    """Gradients are switched on again after each test."""
    yield
    torch.set_grad_enabled(True)


@pytest.mark.parametrize(("kind", "name"), CONTROLS, ids=lambda value: getattr(value, "__name__", value))
def test_the_named_check_catches(registered, kind, name):
    with pytest.raises(ConformanceError, match=r"expected: .*\n *found: .*\n *fix: "):
        run(registered(of(kind)), name)


def test_another_width_than_the_recipe_states_is_caught(registered):
    run(registered(of(Sound, width=2)), "features")
    with pytest.raises(ConformanceError, match=r"expected: width = 2\n *found: 3"):
        run(registered(of(Sound, width=3)), "features")


def test_an_extractor_that_accepts_what_it_cannot_see_is_caught(registered):
    for needs in ({"needs_classes": True}, {"channels": (1,)}):
        run(registered(of(Sound, **needs)), "suited")
        with pytest.raises(ConformanceError, match="ConfigError for unsuited images"):
            run(registered(of(Sound, **needs, check_suited=lambda self, images: None)), "suited")


def test_an_extractor_that_refuses_the_images_it_is_checked_on_fails_for_that_reason(registered):
    with pytest.raises(ConfigError, match="takes images of 3 channels"):
        run(registered(of(Sound, channels=(3,))), "suited")


def test_the_sound_original_passes(registered):
    check_extractor(registered(of(Sound)))


def test_every_check_has_a_control():
    own = {case.name for case in cases(of(Sound)) if "Made" in str(case)} - {
        "recipe-class",
        "frozen",
        "value",
        "documented",
        "round-trip",
    }
    assert own == {name for _, name in CONTROLS} | {"suited"}
