"""Compare layer strings with the shapes of weights, and complete them to the keys of the recipe `vdvae`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hebm.errors import CheckpointError
from hebm.published_weights import listed
from hebm_plugins.vdvae.official.sizes import BlockSize, Sizes
from hebm_plugins.vdvae.structure import BlockSpec, parse_blocks

_LONGEST = 5000
"""Bound on the characters of a layer string, far above any real model."""
_PUBLISHED_BIAS = 64


def keys_of(encoder: str, decoder: str, sizes: Sizes) -> tuple[dict[str, Any], int]:
    """Return keys of the recipe `vdvae` for layer strings and weights, and the side of the images.

    Arguments:
        encoder: its layer string.
        decoder: its layer string.
        sizes: the sizes that the weights show.

    Raises `CheckpointError` with all blocks, widths, kernels and biases that do not fit, and `ConfigError` for text
    that is not a layer string.
    """
    if max(len(encoder), len(decoder)) > _LONGEST:
        raise CheckpointError(f"a layer string has more than {_LONGEST:,} characters")
    specs = parse_blocks(encoder, "d", "encoder"), parse_blocks(decoder, "m", "decoder")
    complaints = [
        *_counts(specs[0], sizes.encoder, "encoder"),
        *_counts(specs[1], sizes.decoder, "decoder"),
    ]
    if not complaints:
        pairs = _named(*specs, sizes)
        complaints = [*_kernels(pairs), *_widths(pairs), *_biases(specs[1], sizes)]
    bottleneck = sizes.bottleneck()
    if bottleneck is None:
        complaints.append("the inner channels of the blocks are not one fraction of their widths")
    if complaints:
        raise CheckpointError(f"the layer strings do not fit the weights:\n  {_each(complaints)}")
    widths = {spec.side: size.width for _, spec, size in _named(*specs, sizes)}
    keys = {
        "encoder": encoder,
        "decoder": decoder,
        "width": sizes.width,
        "widths": ",".join(f"{side}:{width}" for side, width in widths.items() if width != sizes.width),
        "latent_channels": sizes.latent_channels,
        "bottleneck": bottleneck,
        "no_bias_above": _no_bias_above(specs[1], sizes),
        "mixtures": sizes.mixtures,
    }
    return keys, specs[0][0].side


def _each(complaints: Sequence[str]) -> str:
    return "\n  ".join(complaints)


Named = list[tuple[str, BlockSpec, BlockSize]]


def _named(encoder: Sequence[BlockSpec], decoder: Sequence[BlockSpec], sizes: Sizes) -> Named:
    """Return the published name, the token and the sizes of each block."""
    return [
        *((f"encoder.enc_blocks.{i}", *pair) for i, pair in enumerate(zip(encoder, sizes.encoder, strict=True))),
        *((f"decoder.dec_blocks.{i}", *pair) for i, pair in enumerate(zip(decoder, sizes.decoder, strict=True))),
    ]


def _counts(specs: Sequence[BlockSpec], blocks: Sequence[BlockSize], key: str) -> Iterator[str]:
    if len(specs) != len(blocks):
        yield f"{key}: the string has {len(specs)} blocks, the weights have {len(blocks)}"


def _kernels(pairs: Named) -> Iterator[str]:
    """Yield a message if blocks have 1×1 kernels at a side above 2, or 3×3 kernels at sides 1 and 2."""
    wrong = [f"{name} at side {spec.side}" for name, spec, size in pairs if (size.kernel == 3) != (spec.side > 2)]
    if wrong:
        yield f"kernels (1x1 at sides 1 and 2, else 3x3): {listed(wrong)}"


def _widths(pairs: Named) -> Iterator[str]:
    """Yield a message if blocks at one side have different widths."""
    first: dict[int, tuple[str, int]] = {}
    for name, spec, size in pairs:
        known, width = first.setdefault(spec.side, (name, size.width))
        if size.width != width:
            yield f"widths at side {spec.side}: {size.width} in {name}, but {width} in {known}"


def _biases(decoder: Sequence[BlockSpec], sizes: Sizes) -> Iterator[str]:
    """Yield a message unless the sides with a bias are the smallest of the decoder's."""
    sides = sorted({spec.side for spec in decoder})
    if list(sizes.biases) != sides[: len(sizes.biases)]:
        found = ", ".join(map(str, sizes.biases))
        yield f"biases: the weights have them at sides {found}; the decoder's sides are {', '.join(map(str, sides))}"


def _no_bias_above(decoder: Sequence[BlockSpec], sizes: Sizes) -> int:
    """Return the published bound if it gives the biases of the weights, else the largest side with a bias."""
    published = sorted({spec.side for spec in decoder if spec.side <= _PUBLISHED_BIAS})
    return _PUBLISHED_BIAS if published == list(sizes.biases) else max(sizes.biases, default=0)
