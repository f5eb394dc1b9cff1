"""What a feature extractor promises. Every check is called with a recipe and the images that it is checked on."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.errors import ConfigError
from hebm.evaluation.extractors import Extractor, ExtractorContext, ExtractorRecipe
from hebm.evaluation.shares import Processes
from hebm.interfaces import ImageSpec
from hebm.pixel_levels import to_pixels
from hebm.registry import name_of
from hebm.testing.promises import expect_close, expect_equal, expect_finite, expect_shape, no_global_randomness, promise
from hebm.testing.subjects import image_batch, image_set

ROWS = 6


def _load(recipe: ExtractorRecipe, images: ImageSpec, cache: str | None = None, rows: int = 24) -> Extractor:
    """Load it for a few random images, with an empty cache unless one is given."""
    splits = {"train": image_set(images, rows), "test": image_set(images, rows // 2)}
    with tempfile.TemporaryDirectory() as folder:
        return recipe.load(ExtractorContext(splits, Path(cache or folder), torch.device("cpu"), Processes()))


@functools.lru_cache(maxsize=1)
def _loaded(recipe: ExtractorRecipe, images: ImageSpec) -> Extractor:
    """Load the extractor once for all checks: it may take seconds."""
    return _load(recipe, images)


def _pixels(images: ImageSpec) -> Tensor:
    return to_pixels(image_batch(images, ROWS).x)


def _features(recipe: ExtractorRecipe, images: ImageSpec, pixels: Tensor) -> Mapping[str, Tensor]:
    return _loaded(recipe, images)(pixels)


def check_suited(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """It accepts these images; where it declares needs, images without them are a `ConfigError`."""
    recipe.check(image_set(images))
    unsuited = [attrs.evolve(images, classes=())] if recipe.needs_classes else []
    if recipe.channels:
        unsuited.append(attrs.evolve(images, channels=max(recipe.channels) + 1))
    for other in unsuited:
        try:
            recipe.check(image_set(other))
        except ConfigError:
            continue
        promise(
            False, "ConfigError for images that it cannot see", f"accepts {other}", "call super().check_suited(images)"
        )


def check_features(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """uint8 images give "features", and all else in `widths`: float32 `(B, F)`, finite, without gradients."""
    widths = _loaded(recipe, images).widths
    promise("features" in widths, 'widths has "features"', ", ".join(widths), 'widths = {"features": F}')
    found = _features(recipe, images, _pixels(images))
    promise(set(found) == set(widths), f"the names {sorted(widths)}", str(sorted(found)), "return what widths names")
    stated = recipe.width
    promise(stated in (None, widths["features"]), f"width = {widths['features']}", str(stated), "correct `width`")
    for name, width in widths.items():
        expect_shape(name, found[name], (ROWS, width), "correct `widths`")
        kind, fix = found[name].dtype, "return float32 features, computed under torch.no_grad()"
        promise(kind == torch.float32, f"{name} are float32", str(kind), fix)
        promise(not found[name].requires_grad, f"{name} need no gradient", "a graph is kept", fix)
        expect_finite(name, found[name], "scale pixels before the network, and take no logarithm of 0")


def check_each_image_alone(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """An image's features depend on no other image of the batch, to 1e-4."""
    pixels = _pixels(images)
    whole, alone = (_features(recipe, images, part)["features"] for part in (pixels, pixels[2:3]))
    fix = "put the network in eval mode (no batch statistics), and normalise by constants"
    expect_close("features of an image alone", alone, whole[2:3], 1e-4, fix)


def check_pixels_matter(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Other images have other features."""
    features = _features(recipe, images, _pixels(images))["features"]
    differ = bool((features[1:] != features[:1]).any())
    promise(differ, "other images have other features", "all are equal", "pass the pixels through the network")


def check_repeats(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Features repeat bit for bit, with the extractor loaded again too, and its sha256 stays the same."""
    pixels, again = _pixels(images), _load(recipe, images)
    first = _features(recipe, images, pixels)["features"]
    fix = "keep no state between calls; seed what is trained or drawn from a constant"
    expect_equal("features, computed again", _features(recipe, images, pixels)["features"], first, fix)
    expect_equal("features of the extractor loaded again", again(pixels)["features"], first, fix)
    same = again.sha256 == _loaded(recipe, images).sha256
    promise(
        same,
        "the same sha256 when loaded again",
        again.sha256,
        "hash the weights: hebm.store.tensor_files.digest(state)",
    )


def check_cache(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Loaded again with the same cache folder, or after its files were damaged, it is the same extractor."""
    pixels = _pixels(images)
    wanted = _features(recipe, images, pixels)["features"]
    fix = "keep weights by hebm.evaluation.weights_cache, whose files carry a hash, under a name that hashes the data"
    with tempfile.TemporaryDirectory() as folder:
        for what in ("filled", "read", "damaged"):
            files = [file for file in Path(folder).rglob("*") if file.is_file()]
            for file in files if what == "damaged" else ():
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            found = _load(recipe, images, folder)
            expect_equal(f"features, the cache {what}", found(pixels)["features"], wanted, fix)
            same = found.sha256 == _loaded(recipe, images).sha256
            promise(same, f"the same sha256, the cache {what}", found.sha256, fix)
            if not any(Path(folder).iterdir()):
                return  # it keeps nothing


def check_sha256(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Where other training images give other features, they give another sha256."""
    first, other = _loaded(recipe, images), _load(recipe, images, rows=30)
    pixels = _pixels(images)
    differ = not torch.equal(first(pixels)["features"], other(pixels)["features"])
    fix = "hash the weights: hebm.store.tensor_files.digest(net.state_dict())"
    promise(not differ or first.sha256 != other.sha256, "another sha256 for other weights", "the same one", fix)


def check_other_images(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """It works for all that it does not exclude: grey and colour images, and images without classes."""
    classes = images.classes if recipe.needs_classes else ()
    for channels in recipe.channels or (1, 3):
        kind = attrs.evolve(images, channels=channels, classes=classes)
        try:
            extractor = _load(recipe, kind)
            found = extractor(_pixels(kind))["features"]
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
            fix = "state `channels` and `needs_classes`, or take such images"
            promise(False, f"features of {kind.channels} channel(s), classes {kind.classes}", seen, fix)
        fix = "set `widths` when the network is built"
        expect_shape(f"features of {kind.channels} channel(s)", found, (ROWS, extractor.widths["features"]), fix)


def check_leaves_the_rest(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Loading and using it change neither the pixels nor torch's settings: gradients, default type, determinism."""
    pixels, before, gradients = _pixels(images), _settings(), torch.is_grad_enabled()
    given = pixels.clone()
    _load(recipe, images)(pixels)
    expect_equal("the pixels, afterwards", pixels, given, "do not work in place on what is given")
    changed = [name for name, value in _settings().items() if value != before[name]]
    torch.set_grad_enabled(gradients)
    fix = "use `with torch.no_grad()` or the decorator, and set nothing globally"
    promise(not changed, "torch's settings as before", f"changed: {', '.join(changed)}", fix)


def _settings() -> dict[str, object]:
    """Return torch's global settings, by name."""
    return {
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "number of threads": torch.get_num_threads(),
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
    }


def check_description(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """`describe` gives the registered name, 64 hex digits, the length of features, and goes to JSON."""
    extractor = _loaded(recipe, images)
    found = extractor.describe()
    name, fix = name_of(recipe), "leave describe() alone; set name, sha256 and widths, and return the rest from notes()"
    promise(found.get("name") == name, f"the name {name!r}", repr(found.get("name")), fix)
    sha256 = str(found.get("sha256"))
    promise(re.fullmatch("[0-9a-f]{64}", sha256) is not None, "a sha256 of 64 hex digits", sha256[:80], fix)
    width = extractor.widths["features"]
    promise(found.get("features") == width, f"{width} features", repr(found.get("features")), fix)
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        promise(False, "a description that goes to JSON", str(error), "notes: texts, finite numbers, true, false, None")


def check_no_global_rng(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Loading and using it touch no global generator."""
    with no_global_randomness("the extractor"):
        _load(recipe, images)(_pixels(images))
