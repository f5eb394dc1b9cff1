"""Read the sizes of a VDVAE from the shapes of its weights, as far as they show them.

Which block pools or mixes in a map is not visible: such blocks have the same weights as others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import attrs
from torch import Tensor

from hebm.errors import CheckpointError

_LAYERS = 9
"""Channels of p(x|z) per mixture component, without its weight: 3 colours of mean, log scale and coefficient."""

Shapes = Mapping[str, tuple[int, ...]]


class BlockSize(NamedTuple):
    """The sizes of one block: channels of its map, channels inside, and the size of its inner kernels."""

    width: int
    inner: int
    kernel: int


class Fingerprint(NamedTuple):
    """Numbers that tell the published models apart: blocks, W, mixture components, and the sides with a bias."""

    encoder: int
    decoder: int
    width: int
    mixtures: int
    biases: tuple[int, ...]


@attrs.frozen
class Sizes:
    """What the shapes of the weights show.

    Arguments:
        channels: channels of the images.
        width: W, channels of the maps at the image's resolution.
        latent_channels: Z.
        mixtures: components of the mixture of logistics.
        encoder, decoder: the blocks in order.
        biases: channels of the learned biases by the side of their map, in the order of their numbers.
    """

    channels: int
    width: int
    latent_channels: int
    mixtures: int
    encoder: tuple[BlockSize, ...]
    decoder: tuple[BlockSize, ...]
    biases: Mapping[int, int]

    @property
    def fingerprint(self) -> Fingerprint:
        """Return the numbers that tell the published models apart."""
        return Fingerprint(len(self.encoder), len(self.decoder), self.width, self.mixtures, tuple(self.biases))

    def bottleneck(self) -> float | None:
        """Return m with int(width · m) = inner channels in all blocks: 1/4, or the shortest decimal; None without one.

        The result has at most 6 decimals.
        """
        blocks = {(block.width, block.inner) for block in (*self.encoder, *self.decoder)}
        least = max(inner / width for width, inner in blocks)
        candidates = [0.25, *(_up(least, digits) for digits in range(1, 7))]
        return next((m for m in candidates if all(int(width * m) == inner for width, inner in blocks)), None)


def _up(value: float, digits: int) -> float:
    """Return the least decimal with this number of digits that is not below a value."""
    rounded = round(value, digits)
    return rounded if rounded >= value else round(rounded + 10**-digits, digits)


def sizes_of(state: Mapping[str, Tensor]) -> Sizes:
    """Return the sizes of the model with these weights. Raises `CheckpointError` for weights of another model."""
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    stem, head = _shape(shapes, "encoder.in_conv.weight", 4), _shape(shapes, "decoder.out_net.out_conv.weight", 4)
    mixtures, rest = divmod(head[0], _LAYERS + 1)
    if rest or not mixtures:
        raise CheckpointError(
            f"decoder.out_net.out_conv.weight has {head[0]} outputs; the published code has 10 for each component of "
            "its mixture of logistics"
        )
    sizes = Sizes(
        channels=stem[1],
        width=stem[0],
        latent_channels=_shape(shapes, "decoder.dec_blocks.0.z_proj.weight", 4)[1],
        mixtures=mixtures,
        encoder=_blocks(shapes, "encoder.enc_blocks", _encoder_block),
        decoder=_blocks(shapes, "decoder.dec_blocks", _decoder_block),
        biases=_biases(shapes),
    )
    if 0 in (
        sizes.width,
        sizes.latent_channels,
        *(size for block in (*sizes.encoder, *sizes.decoder) for size in block),
    ):
        raise CheckpointError("this is not a VDVAE checkpoint: some of its weights are empty")
    return sizes


def _shape(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None:
        raise CheckpointError(
            f"this is not a VDVAE checkpoint: it lacks {name}; the files of the published code hold a state dict"
        )
    if len(shape) != dimensions:
        raise CheckpointError(f"this is not a VDVAE checkpoint: {name} has the shape {shape}")
    return shape


def _blocks(shapes: Shapes, name: str, block: Callable[[Shapes, str], BlockSize]) -> tuple[BlockSize, ...]:
    """Return the sizes of the blocks NAME.0, NAME.1, … Raises `CheckpointError` if a number is missing."""
    numbers = sorted({_number(key, name) for key in shapes if key.startswith(f"{name}.")} - {-1})
    if numbers != list(range(len(numbers))) or not numbers:
        missing = next(i for i in range(len(numbers) + 1) if i not in numbers)
        raise CheckpointError(f"the checkpoint is not whole: it lacks {name}.{missing}")
    return tuple(block(shapes, f"{name}.{number}") for number in numbers)


def _number(key: str, name: str) -> int:
    """Return the number after a name; -1 for a key without one, which the comparison of names reports."""
    number = key.removeprefix(f"{name}.").partition(".")[0]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 6 else -1


def _encoder_block(shapes: Shapes, name: str) -> BlockSize:
    inner, kernel = _shape(shapes, f"{name}.c1.weight", 4)[0], _shape(shapes, f"{name}.c2.weight", 4)[2]
    return BlockSize(_shape(shapes, f"{name}.c4.weight", 4)[0], inner, kernel)


def _decoder_block(shapes: Shapes, name: str) -> BlockSize:
    inner, kernel = _shape(shapes, f"{name}.resnet.c1.weight", 4)[0], _shape(shapes, f"{name}.resnet.c2.weight", 4)[2]
    return BlockSize(_shape(shapes, f"{name}.z_proj.weight", 4)[0], inner, kernel)


def _biases(shapes: Shapes) -> dict[int, int]:
    name = "decoder.bias_xs"
    names = sorted((_number(key, name), key) for key in shapes if key.startswith(f"{name}."))
    found = [_shape(shapes, key, 4) for _, key in names]
    return {shape[2]: shape[1] for shape in found}
