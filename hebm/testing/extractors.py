"""Checks of a feature extractor. Every check is called with a recipe and a description of images."""

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
from hebm.testing.promises import expect, expect_close, expect_equal, expect_finite, expect_shape, no_global_randomness
from hebm.testing.subjects import image_batch, image_set

ROWS = 6


def _load(recipe: ExtractorRecipe, images: ImageSpec, cache: str | None = None, rows: int = 24) -> Extractor:
    """Load the extractor for a few random images, with an empty cache unless one is given."""
    splits = {"train": image_set(images, rows), "test": image_set(images, rows // 2)}
    with tempfile.TemporaryDirectory() as folder:
        return recipe.load(ExtractorContext(splits, Path(cache or folder), torch.device("cpu"), Processes()))


@functools.lru_cache(maxsize=1)
def _loaded(recipe: ExtractorRecipe, images: ImageSpec) -> Extractor:
    """Load the extractor once for all checks, because loading may take seconds."""
    return _load(recipe, images)


def _pixels(images: ImageSpec) -> Tensor:
    return to_pixels(image_batch(images, ROWS).x)


def _features(recipe: ExtractorRecipe, images: ImageSpec, pixels: Tensor) -> Mapping[str, Tensor]:
    return _loaded(recipe, images)(pixels)


def check_suited(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that the extractor accepts these images, and raises `ConfigError` for images that it declares unsuited."""
    recipe.check(image_set(images))
    unsuited = [attrs.evolve(images, classes=())] if recipe.needs_classes else []
    if recipe.channels:
        unsuited.append(attrs.evolve(images, channels=max(recipe.channels) + 1))
    for other in unsuited:
        try:
            recipe.check(image_set(other))
        except ConfigError:
            continue
        expect(
            False,
            f"ConfigError for unsuited images, {other}",
            "no error",
            "in check_suited, call super().check_suited(images)",
        )


def check_features(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that uint8 images give the outputs named in `widths`: finite float32 `(B, F)` without gradients.

    One of them must be "features".
    """
    widths = _loaded(recipe, images).widths
    expect("features" in widths, '"features" in widths', ", ".join(widths), 'set widths = {"features": F, …}')
    found = _features(recipe, images, _pixels(images))
    expect(
        set(found) == set(widths),
        f"the outputs {sorted(widths)}, as widths says",
        str(sorted(found)),
        "return all outputs that widths names",
    )
    stated = recipe.width
    expect(stated in (None, widths["features"]), f"width = {widths['features']}", str(stated), "correct `width`")
    for name, width in widths.items():
        expect_shape(name, found[name], (ROWS, width), "correct `widths`")
        kind, fix = found[name].dtype, "return float32 features, computed under torch.no_grad()"
        expect(kind == torch.float32, f"{name} of dtype float32", str(kind), fix)
        expect(not found[name].requires_grad, f"{name} without gradients", "they require gradients", fix)
        expect_finite(name, found[name], "scale the pixels before the network, and take no logarithm of 0")


def check_each_image_alone(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that an image's features do not depend on the other images of the batch, to 1e-4."""
    pixels = _pixels(images)
    whole, alone = (_features(recipe, images, part)["features"] for part in (pixels, pixels[2:3]))
    fix = "put the network into eval mode, which uses no batch statistics, and normalise by constants"
    expect_close("features of an image alone equal its features in a batch", alone, whole[2:3], 1e-4, fix)


def check_pixels_matter(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that different images have different features."""
    features = _features(recipe, images, _pixels(images))["features"]
    differ = bool((features[1:] != features[:1]).any())
    expect(
        differ,
        "different images have different features",
        "all features are equal",
        "compute the features from the pixels",
    )


def check_repeats(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that features repeat bit for bit, also after loading again, and that the sha256 stays the same."""
    pixels, again = _pixels(images), _load(recipe, images)
    first = _features(recipe, images, pixels)["features"]
    fix = "keep no state between calls, and use a constant seed for training and draws"
    expect_equal("features are equal if computed again", _features(recipe, images, pixels)["features"], first, fix)
    expect_equal("features are equal if the extractor is loaded again", again(pixels)["features"], first, fix)
    same = again.sha256 == _loaded(recipe, images).sha256
    expect(
        same,
        f"sha256 = {_loaded(recipe, images).sha256} if loaded again",
        again.sha256,
        "set sha256 to a hash of the weights, hebm.store.tensor_files.digest(state)",
    )


def check_cache(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that loading with a filled or damaged cache folder gives the same extractor."""
    pixels = _pixels(images)
    wanted = _features(recipe, images, pixels)["features"]
    fix = "store weights by hebm.evaluation.weights_cache, which checks a hash, with a name that contains a data hash"
    with tempfile.TemporaryDirectory() as folder:
        for what in ("new", "filled", "damaged"):
            files = [file for file in Path(folder).rglob("*") if file.is_file()]
            for file in files if what == "damaged" else ():
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            found = _load(recipe, images, folder)
            expect_equal(f"features are equal with a {what} cache", found(pixels)["features"], wanted, fix)
            same = found.sha256 == _loaded(recipe, images).sha256
            expect(same, f"the same sha256 with a {what} cache", found.sha256, fix)
            if not any(Path(folder).iterdir()):
                return  # the extractor uses no cache


def check_sha256(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that an extractor whose features depend on the training images has another sha256 for other images."""
    first, other = _loaded(recipe, images), _load(recipe, images, rows=30)
    pixels = _pixels(images)
    differ = not torch.equal(first(pixels)["features"], other(pixels)["features"])
    fix = "set sha256 to a hash of the weights, hebm.store.tensor_files.digest(net.state_dict())"
    expect(not differ or first.sha256 != other.sha256, "different sha256 for different weights", "equal ones", fix)


def check_other_images(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that the extractor works for all images that it does not exclude.

    Tried with grey and colour images, and without classes.
    """
    classes = images.classes if recipe.needs_classes else ()
    for channels in recipe.channels or (1, 3):
        kind = attrs.evolve(images, channels=channels, classes=classes)
        try:
            extractor = _load(recipe, kind)
            found = extractor(_pixels(kind))["features"]
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
            fix = "declare `channels` and `needs_classes`, or support these images"
            expect(False, f"features of images with {kind.channels} channels and classes {kind.classes}", seen, fix)
        fix = "set `widths` from the network that is built"
        expect_shape(
            f"features of images with {kind.channels} channels", found, (ROWS, extractor.widths["features"]), fix
        )


def check_leaves_the_rest(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that loading and calling the extractor change neither the pixels nor torch's global settings."""
    pixels, before, gradients = _pixels(images), _settings(), torch.is_grad_enabled()
    given = pixels.clone()
    _load(recipe, images)(pixels)
    expect_equal("the pixels are unchanged afterwards", pixels, given, "do not change the pixels in place")
    changed = [name for name, value in _settings().items() if value != before[name]]
    torch.set_grad_enabled(gradients)
    fix = "use `with torch.no_grad()` or the decorator, and do not change global settings"
    expect(not changed, "unchanged global settings of torch", f"changed: {', '.join(changed)}", fix)


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
    """Check that `describe` returns the registered name, a sha256, the width of features, and values for JSON."""
    extractor = _loaded(recipe, images)
    found = extractor.describe()
    name = name_of(recipe)
    fix = "do not override describe(); set name, sha256 and widths, and return other values from notes()"
    expect(found.get("name") == name, f"the registered name {name!r}", repr(found.get("name")), fix)
    sha256 = str(found.get("sha256"))
    expect(re.fullmatch("[0-9a-f]{64}", sha256) is not None, "a sha256 of 64 hex digits", sha256[:80], fix)
    width = extractor.widths["features"]
    expect(found.get("features") == width, f"features = {width} in the description", repr(found.get("features")), fix)
    try:
        json.dumps(found, allow_nan=False)
    except (TypeError, ValueError) as error:
        expect(
            False,
            "a description that JSON can hold",
            str(error),
            "return texts, finite numbers, booleans or None from notes()",
        )


def check_no_global_rng(recipe: ExtractorRecipe, images: ImageSpec) -> None:
    """Check that loading and calling the extractor use no global generator."""
    with no_global_randomness("the extractor"):
        _load(recipe, images)(_pixels(images))
