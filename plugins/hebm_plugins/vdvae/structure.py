"""The sizes of a VDVAE: its layer strings, widths and biases (arXiv 2011.10650, in the notation of the published code).

A layer string is a list of tokens for blocks at a resolution R (side of a map, in pixels):

    "RxN": N blocks;    "R": one block;    "RdK": one block that then pools by K (encoder);
    "RmK": one block that first adds the map of resolution K, enlarged to R (decoder).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import attrs

from hebm.errors import ConfigError

_TOKEN = re.compile(r"(\d+)(?:([xdm])(\d+))?")
_WIDTH = re.compile(r"(\d+):(\d+)")
_LARGEST = 10_000
"""Bound on the numbers of a string, far above any real model."""
_SMALL = 2
"""Maps of this side and smaller have 1×1 convolutions only."""


class BlockSpec(NamedTuple):
    """One block of a layer string.

    Arguments:
        side: R, the side of its map.
        other: the factor by which the block pools (encoder), or the resolution that it mixes in (decoder); or None.
    """

    side: int
    other: int | None = None


def parse_blocks(text: str, letter: str, key: str) -> tuple[BlockSpec, ...]:
    """Return the blocks of a layer string in order.

    Arguments:
        text: such as `"32x11,32d2,16x6"`.
        letter: "d" for an encoder, "m" for a decoder.
        key: the key that holds the string, for errors.

    Raises `ConfigError` for a token of another form, and for no blocks.
    """
    blocks: list[BlockSpec] = []
    for token in filter(None, (part.strip() for part in text.split(","))):
        match = _TOKEN.fullmatch(token)
        if match is None or match[2] not in (None, "x", letter) or not _in_range(match[1], match[3]):
            raise ConfigError(
                f'{key}: {token!r} is not a block; write "RxN" for N blocks of maps of side R, "R" for one, and '
                + ('"RdK" for one that pools by K' if letter == "d" else '"RmK" for one that mixes in the side K')
            )
        side = int(match[1])
        if match[2] == "x":
            blocks += [BlockSpec(side)] * int(match[3])
        else:
            blocks.append(BlockSpec(side, None if match[3] is None else int(match[3])))
    if not blocks:
        raise ConfigError(f'{key}: {text!r} has no blocks; give at least one, such as "1x1"')
    return tuple(blocks)


def parse_widths(text: str) -> dict[int, int]:
    """Return channels by resolution, from "" or "R:w,R:w,…". Raises `ConfigError` for another form."""
    widths: dict[int, int] = {}
    for token in filter(None, (part.strip() for part in text.split(","))):
        match = _WIDTH.fullmatch(token)
        if match is None or not _in_range(*match.groups()):
            raise ConfigError(f'backbone.widths: {token!r} is not "R:w", the channels w of maps of side R')
        widths[int(match[1])] = int(match[2])
    return widths


def _in_range(*numbers: str | None) -> bool:
    side, *others = (int(number) for number in numbers if number is not None)
    return 1 <= side <= _LARGEST and all(0 <= number <= _LARGEST for number in others)


@attrs.frozen
class Structure:
    """The sizes of all blocks.

    Arguments:
        encoder, decoder: blocks in order; the decoder's are the latent layers, top first.
        width: channels W of maps without an entry in `widths`.
        widths: channels of maps by resolution.
        latent_channels: Z, channels of every latent layer.
        bottleneck: inner channels of a block, as a fraction of its width; the product is truncated.
        no_bias_above: the largest resolution whose map starts from a learned bias; larger maps start from zeros.
        side: S, the image's side.
    """

    encoder: tuple[BlockSpec, ...]
    decoder: tuple[BlockSpec, ...]
    width: int
    widths: Mapping[int, int]
    latent_channels: int
    bottleneck: float
    no_bias_above: int
    side: int

    def width_at(self, side: int) -> int:
        """Return w(R), the channels of maps of this side."""
        return self.widths.get(side, self.width)

    def inner(self, side: int) -> int:
        """Return the inner channels of blocks at this side."""
        return int(self.width_at(side) * self.bottleneck)

    def kernel(self, side: int) -> int:
        """Return the kernel size of the inner convolutions at this side."""
        return 3 if side > _SMALL else 1

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Return the shape of each latent layer, top first."""
        return tuple((self.latent_channels, block.side, block.side) for block in self.decoder)

    @property
    def biases(self) -> tuple[int, ...]:
        """Return the resolutions with a learned bias, ascending."""
        return tuple(sorted({block.side for block in self.decoder if block.side <= self.no_bias_above}))

    def check(self) -> None:
        """Raise `ConfigError` unless both strings describe a valid model."""
        if self.width_at(self.side) != self.width:
            raise ConfigError(
                f"backbone.widths: maps of the image's side {self.side} must have width = {self.width} channels"
            )
        self._check_encoder()
        self._check_decoder()
        narrow = [side for side in (self.side, *self._sides()) if self.inner(side) < 1]
        if narrow:
            raise ConfigError(
                f"backbone.bottleneck: {self.bottleneck} of {self.width_at(narrow[0])} channels leaves no inner "
                "channel; use a larger bottleneck or width"
            )

    def _sides(self) -> set[int]:
        return {block.side for block in (*self.encoder, *self.decoder)}

    def _check_encoder(self) -> None:
        side = self.side
        for block in self.encoder:
            if block.side != side:
                raise ConfigError(
                    f"backbone.encoder: a block of side {block.side} follows a map of side {side}; the string starts "
                    f"at the image's side {self.side}, and only RdK changes the side, from R to R / K"
                )
            if block.other is not None:
                if block.other < 1 or side % block.other:
                    raise ConfigError(f"backbone.encoder: a map of side {side} cannot be pooled by {block.other}")
                side //= block.other
                if self.width_at(side) < self.width_at(block.side):
                    raise ConfigError(
                        f"backbone.widths: the encoder's width must not fall from side {block.side} to {side}"
                    )

    def _check_decoder(self) -> None:
        seen, made = _encoded(self.encoder, self.side), set(self.biases)
        for block in self.decoder:
            if block.side not in seen:
                raise ConfigError(
                    f"backbone.decoder: the encoder has no map of side {block.side}; its sides are {_listed(seen)}"
                )
            self._check_mixed(block, made)
            made.add(block.side)
        if self.decoder[-1].side != self.side:
            raise ConfigError(
                f"backbone.decoder: the last block has side {self.decoder[-1].side}; it must have the image's side "
                f"{self.side}"
            )

    def _check_mixed(self, block: BlockSpec, made: set[int]) -> None:
        if block.other is None:
            return
        if block.other not in made or block.side % block.other:
            raise ConfigError(
                f"backbone.decoder: {block.side}m{block.other} mixes in a map of side {block.other}; K must divide R, "
                f"and be one of the sides before it: {_listed(made)}"
            )
        if self.width_at(block.side) > self.width_at(block.other):
            raise ConfigError(
                f"backbone.widths: the decoder's width must not rise from side {block.other} to {block.side}"
            )


def _encoded(blocks: Sequence[BlockSpec], side: int) -> set[int]:
    """Return the sides of the maps that the encoder keeps: the image's, and those after each block."""
    return {side, *(block.side // (block.other or 1) for block in blocks)}


def _listed(sides: set[int]) -> str:
    return ", ".join(map(str, sorted(sides)))


def default_strings(side: int) -> tuple[str, str]:
    """Return layer strings of encoder and decoder for images of this side, such as 32, 16, 8, 4, 1.

    The side is halved while it is even and at least 8, and then is 1. The encoder has two blocks at each side; the
    decoder has two at each side but 1 and the image's, which have one.
    """
    sides = [side]
    while sides[-1] % 2 == 0 and sides[-1] >= 8:
        sides.append(sides[-1] // 2)
    sides += [1] if sides[-1] > 1 else []
    down = [f"{a}x1,{a}d{a // b}" for a, b in zip(sides[:-1], sides[1:], strict=True)]
    up = [f"{b}m{a},{b}x1" for a, b in zip(sides[:0:-1], sides[-2::-1], strict=True)]
    return ",".join([*down, "1x1"]), ",".join(["1x1", *up]).removesuffix(f",{side}x1")
