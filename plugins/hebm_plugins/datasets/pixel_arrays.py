"""Check and scale pixels that are passed in Python: NumPy arrays and torch tensors.

The values low and high of a range become −1 and 1. Floats need a range; for bytes it is (0, 255) by default.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from hebm.data.images import from_range, to_unit_range
from hebm.errors import ConfigError, DataError

Range: TypeAlias = tuple[float, float] | None

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ROUNDING = 1e-4
"""How far a float may exceed its range by rounding, as a fraction of the range. Such values are clamped."""
WIDEST = 1e9
"""The largest absolute value of low and high."""


def tensor_of(value: Any, where: str) -> Tensor:
    """Convert an array or a CPU tensor to a plain tensor, which shares its memory if possible.

    Raises `DataError` for any other value, and for masked arrays and sparse, quantized or GPU tensors.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise DataError(f"{where}: is a masked array; fill its masked values (.filled(…)), or leave these images out")
    if isinstance(value, np.ndarray):
        return _from_numpy(value, where)
    if not isinstance(value, Tensor):
        fix = "convert a list by torch.stack or numpy.array; hebm.FromDataset takes PIL images"
        raise DataError(f"{where}: expected a torch tensor or a NumPy array, got {type(value).__name__}; {fix}")
    if value.device.type != "cpu":
        raise DataError(f"{where}: is on {value.device}; pass {where}.cpu(): batches are moved to the device as needed")
    if value.layout != torch.strided or value.is_quantized:
        raise DataError(f"{where}: is a sparse or quantized tensor; pass a dense one (.to_dense(), .dequantize())")
    return value.detach().as_subclass(Tensor)


def _from_numpy(array: np.ndarray, where: str) -> Tensor:
    native = array.dtype.newbyteorder("=")
    if array.dtype != native or any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array, native)  # torch supports neither swapped bytes nor negative strides
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of read-only arrays; this one is never written
            return torch.from_numpy(array)
    except TypeError as error:
        raise DataError(f"{where}: holds {array.dtype}; convert it to uint8, or to float32 with a range") from error


def to_nchw(images: Tensor, where: str) -> Tensor:
    """Return images `(N, H, W)` or `(N, C, H, W)` as `(N, C, H, W)`, sharing memory.

    Raises `DataError` for any other shape, for no images, and unless C is 1 or 3.
    """
    shape = tuple(images.shape)
    if images.ndim not in (3, 4):
        raise DataError(f"{where}: has shape {shape}; expected (N, H, W), or (N, C, H, W) with 1 or 3 channels")
    if not images.numel():
        raise DataError(f"{where}: has shape {shape}, which holds no pixels; pass at least one image")
    found = images.unsqueeze(1) if images.ndim == 3 else images
    if found.shape[1] in (1, 3):
        return found
    fix = "keep 1 or 3 of them"
    if shape[3] in (1, 3):
        fix = f"the channels seem to be last: pass {where}.permute(0, 3, 1, 2), in NumPy {where}.transpose(0, 3, 1, 2)"
    raise DataError(f"{where}: shape {shape} is read as (N, C, H, W) and has {shape[1]} channels; {fix}")


def check_range(stated: Range) -> None:
    """Raise `ConfigError` unless low is less than high."""
    if stated is not None and not stated[0] < stated[1]:
        raise ConfigError(f"range = {stated}: the first value (black) must be less than the second (white)")


def check_values(pixels: Tensor, stated: Range, where: str) -> None:
    """Raise `DataError` for pixels that are neither bytes nor floats, are not finite, or exceed their range.

    Floats without a range are ambiguous and raise an error. So do bytes without a range that are all 0 or 1.
    """
    kind = str(pixels.dtype).removeprefix("torch.")
    if pixels.dtype != torch.uint8 and pixels.dtype not in FLOATS:
        fix = "convert it to uint8 (0 … 255), or to float32 and state range=(low, high)"
        raise DataError(f"{where}: holds {kind}; {fix}")
    low, high = (float(value) for value in torch.aminmax(pixels))
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        bad = (~pixels.isfinite()).flatten(1).any(1).nonzero().flatten()
        raise DataError(
            f"{where}: {len(bad)} image(s) have values that are not finite, the first is image {int(bad[0])}"
        )
    span = f"values run from {low:g} to {high:g}"
    if stated is None and pixels.dtype != torch.uint8:
        fix = "state which values are black and white, such as range=(0, 1), range=(-1, 1) or range=(0, 255)"
        raise DataError(f"{where}: holds {kind}, and {span}; {fix}")
    check_bits(pixels.dtype, high, stated, where)
    rounding = 0 if stated is None or pixels.dtype == torch.uint8 else ROUNDING * (stated[1] - stated[0])
    if stated is not None and not stated[0] - rounding <= low <= high <= stated[1] + rounding:
        raise DataError(
            f"{where}: {span}, outside of range = {stated}; state the range that they have, or rescale them"
        )


def check_bits(dtype: torch.dtype, high: float, stated: Range, where: str) -> None:
    """Raise `DataError` for bytes without a range whose highest value is 0 or 1, since they could be bits."""
    if dtype == torch.uint8 and stated is None and high <= 1:
        fix = "state range=(0, 1) for bits, or range=(0, 255)"
        raise DataError(f"{where}: holds uint8, and values run from 0 to {high:g}; {fix}")


def scaled(pixels: Tensor, stated: Range) -> Tensor:
    """Return checked pixels as float32 in [−1, 1]."""
    return to_unit_range(pixels) if stated is None else from_range(pixels, *stated)
