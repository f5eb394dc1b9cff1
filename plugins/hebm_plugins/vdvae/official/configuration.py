"""Find the configuration of a checkpoint: a published model by its shapes, or layer strings that fit them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec
from hebm.published_weights import misfits
from hebm_plugins.vdvae.official.sizes import Fingerprint, Sizes, sizes_of
from hebm_plugins.vdvae.official.strings import keys_of
from hebm_plugins.vdvae.presets import PRESETS
from hebm_plugins.vdvae.recipe import VDVAE

_NOT_SHOWN = {
    "encoder": "--encoder, the layer string of the encoder (32x11,32d2,16x6)",
    "decoder": "--decoder, that of the decoder (1x1,4m1,4x2)",
    "inputs": "--normalisation, the data set whose constants standardise the input, or --input-mean and --input-std",
}
"""What the weights do not show: the fields of `Wanted`, and the options."""


@attrs.frozen
class Wanted:
    """What a user says of a checkpoint; None for what was left out.

    Arguments:
        preset: a published configuration.
        encoder, decoder: layer strings.
        inputs: `normalisation`, or `input_mean` and `input_std`, as keys of the recipe.
        bits: bits per colour.
        images: the data set that a log names.
    """

    preset: str | None
    encoder: str | None
    decoder: str | None
    inputs: Mapping[str, Any]
    bits: int | None
    images: str | None = None

    def fits(self, preset: str) -> bool:
        """Return whether no layer string was given that differs from those of a published configuration."""
        keys = PRESETS[preset].backbone
        return all(given in (None, keys[key]) for key, given in (("encoder", self.encoder), ("decoder", self.decoder)))


@attrs.frozen
class Configuration:
    """The configuration of a checkpoint.

    Arguments:
        backbone: the recipe.
        images: the images.
        preset: the published configuration, or None.
        shapes: the published configuration whose weights have these shapes, or None.
        notes: what was assumed, one line each.
    """

    backbone: VDVAE
    images: ImageSpec
    preset: str | None
    shapes: str | None
    notes: tuple[str, ...]


def configuration_of(weights: Mapping[str, Any], wanted: Wanted) -> Configuration:
    """Return the configuration of weights, after comparing all names and shapes.

    Raises `CheckpointError` if they do not fit what the user says, and for a model that is not published if something
    is left out that the weights do not show.
    """
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    sizes = sizes_of(tensors)
    if sizes.channels != 3:
        raise CheckpointError(f"the weights are for images of {sizes.channels} channels; VDVAE's have 3")
    shapes = preset_of(sizes.fingerprint)
    preset = wanted.preset or (shapes if shapes and wanted.fits(shapes) else None)
    keys, side = _of_preset(preset) if preset else _of_strings(sizes, wanted, shapes)
    inputs = _inputs(wanted, preset)
    recipe = _recipe({**keys, **inputs})
    images = ImageSpec(3, side, side)
    said = misfits(weights, outline(recipe, images).state_dict())
    if said:
        raise CheckpointError(_misfit(said, preset, sizes))
    return Configuration(recipe, images, preset, shapes, _assumed(wanted, preset, inputs["bits"]))


def preset_of(fingerprint: Fingerprint) -> str | None:
    """Return the published configuration with this fingerprint, or None."""
    return next((name for name in PRESETS if _fingerprint(name) == fingerprint), None)


def _fingerprint(name: str) -> Fingerprint:
    keys, side = _of_preset(name)
    recipe = VDVAE(**keys)
    structure = recipe.structure(side)
    blocks = len(structure.encoder), len(structure.decoder)
    return Fingerprint(*blocks, structure.width, recipe.mixtures, structure.biases)


def _of_preset(name: str) -> tuple[dict[str, Any], int]:
    return dict(PRESETS[name].backbone), PRESETS[name].side


def _of_strings(sizes: Sizes, wanted: Wanted, shapes: str | None) -> tuple[dict[str, Any], int]:
    if wanted.encoder and wanted.decoder and wanted.inputs:
        return keys_of(wanted.encoder, wanted.decoder, sizes)
    missing = [option for key, option in _NOT_SHOWN.items() if not getattr(wanted, key)]
    published = (
        f"the layer strings are not those of {shapes}, whose shapes the weights have"
        if shapes
        else f"the weights are not those of a published model ({', '.join(PRESETS)})"
    )
    raise CheckpointError(
        f"{published}. They have "
        f"{_in_words(sizes.fingerprint)}. They do not show which blocks pool or mix in a map, nor the data set. Give "
        f"{'; '.join(missing)}; or add the log of the training, which has all of them"
    )


def _in_words(fingerprint: Fingerprint) -> str:
    sides = ", ".join(map(str, fingerprint.biases)) or "none"
    return (
        f"{fingerprint.encoder} encoder and {fingerprint.decoder} decoder blocks, width {fingerprint.width}, "
        f"{fingerprint.mixtures} mixture components, biases at sides {sides}"
    )


def _inputs(wanted: Wanted, preset: str | None) -> dict[str, Any]:
    """Return the keys of the encoder's input and of the bits: given, or those of the preset."""
    name = wanted.inputs.get("normalisation", preset if not wanted.inputs else None)
    published = PRESETS.get(preset or wanted.images or str(name))
    bits = wanted.bits or (published.backbone.get("bits", 8) if published else 8)
    return {"normalisation": "data", **({"normalisation": name} if name else {}), **wanted.inputs, "bits": bits}


def _recipe(keys: Mapping[str, Any]) -> VDVAE:
    try:
        return VDVAE(**keys)
    except ConfigError as error:
        raise CheckpointError(f"the model of this checkpoint is not supported: {error}") from error


def outline(recipe: VDVAE, images: ImageSpec) -> torch.nn.Module:
    """Build the backbone on the meta device. Raises `CheckpointError` if the recipe describes no model."""
    try:
        with torch.device("meta"):
            return recipe.build(images)
    except ConfigError as error:
        raise CheckpointError(f"the layer strings and the weights describe no valid model: {error}") from error


def _misfit(said: str, preset: str | None, sizes: Sizes) -> str:
    """Return the message about weights of other names or shapes."""
    if preset is None:
        return f"the weights do not fit the layer strings:{said}"
    other = preset_of(sizes.fingerprint)
    if other in (None, preset):
        differs = "" if other else f" ({_in_words(_fingerprint(preset))}; the weights: {_in_words(sizes.fingerprint)})"
        return f"the weights do not fit the published model {preset}{differs}:{said}"
    known = (
        ". The file that was published as ffhq1024 is known to hold such a model (openai/vdvae, issue 3)"
        if (preset, other) == ("ffhq1024", "ffhq256")
        else ""
    )
    return (
        f"the weights have the shapes of {other}, not of {preset}{known}; import them with --preset {other}, or "
        "without --preset"
    )


def _assumed(wanted: Wanted, preset: str | None, bits: int) -> tuple[str, ...]:
    """Return notes on what the weights do not show."""
    if preset is None:
        return () if wanted.bits else (f"bits = {bits} is assumed: --bits sets others",)
    side = PRESETS[preset].side
    notes = [] if wanted.preset else [f"by the shapes of its weights, this is the published model {preset}"]
    if wanted.inputs:
        said = f"images of {side}x{side} pixels and {bits} bits are assumed; the weights do not show them (--bits)"
        return (*notes, said)
    assumed = f"images of {side}x{side} pixels, the input constants of {preset} and {bits} bits"
    return (
        *notes,
        f"{assumed} are assumed: the weights do not show them, and a model that was fine-tuned on other images has the "
        "same shapes (--normalisation, --bits)",
    )
