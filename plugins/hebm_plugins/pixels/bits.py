"""Reduce the number of levels per colour, for models of images with fewer than 8 bits."""

from __future__ import annotations

from torch import Tensor

from hebm_plugins.precision import full_precision


def reduce_bits(x: Tensor, bits: int, spread: bool = True) -> Tensor:
    """Return 2 ⌊k / 2^(8−b)⌋ / (2^b − 1) − 1, with k = round(255 (x + 1) / 2) the 8-bit level of x. Idempotent.

    Arguments:
        x: pixels in [−1, 1], of any shape.
        bits: b, from 1 to 8. With 8, values between two levels are rounded to one of them.
        spread: spread the 2^b levels evenly from −1 to 1. False keeps them where they are among the 8-bit levels,
            2 · 2^(8−b) ⌊k / 2^(8−b)⌋ / 255 − 1, so the highest is below 1 (VDVAE).

    Returns:
        Pixels in [−1, 1] of 2^b levels, lowest −1, in float32 at least.
    """
    factor = 2 ** (8 - bits)
    levels = ((127.5 * (full_precision(x) + 1)).round() / factor).floor()
    reduced: Tensor = 2 * levels / (2**bits - 1) - 1 if spread else levels * factor / 127.5 - 1
    return reduced
