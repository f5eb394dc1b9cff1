"""The orthonormal two-dimensional DCT-II, as one matrix product on each side."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

CPU = torch.device("cpu")


@lru_cache(maxsize=64)
def dct_matrix(n: int, dtype: torch.dtype = torch.float64, device: torch.device = CPU) -> Tensor:
    """Return M `(n, n)`, M[k, j] = c_k cos(π (j + ½) k / n), c_0 = √(1/n), else √(2/n); M Mᵀ = I.

    It is computed in float64, once: do not write to it.

    Example:
        >>> m = dct_matrix(4)
        >>> bool(torch.allclose(m @ m.T, torch.eye(4, dtype=m.dtype)))
        True
    """
    with torch.inference_mode(False):  # it is kept, and training must be able to use what inference made
        steps = torch.arange(n, dtype=torch.float64, device=CPU)
        matrix = torch.cos(math.pi * (steps + 0.5) * steps.unsqueeze(1) / n) * math.sqrt(2 / n)
        matrix[0] /= math.sqrt(2)
        return matrix.to(device=device, dtype=dtype)


def dct2(x: Tensor, size: int) -> Tensor:
    """Return the coefficients of the lowest frequencies, M x Mᵀ, `(…, size, size)` of x `(…, H, W)`.

    [0, 0] is the mean times √(H W).
    """
    rows, columns = (dct_matrix(n, x.dtype, x.device)[:size] for n in x.shape[-2:])
    return rows @ x @ columns.T


def idct2(coefficients: Tensor, height: int, width: int) -> Tensor:
    """Return the image `(…, height, width)` with these lowest frequencies and zeros for all others: Mᵀ y M."""
    size = coefficients.shape[-1]
    rows, columns = (dct_matrix(n, coefficients.dtype, coefficients.device)[:size] for n in (height, width))
    return rows.T @ coefficients @ columns
