"""Read and write moments of features in pytorch-fid's format: an `.npz` with `mu` `(F,)` and `sigma` `(F, F)`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from hebm.data.array_files import mapped_array, names_in
from hebm.errors import DataError
from hebm.evaluation.frechet import Moments
from hebm.store.durable import replace_file, reporting


def save_statistics(path: Path, moments: Moments) -> None:
    """Write moments, replacing an existing file. Raises `CheckpointError` if the file cannot be written."""
    content = io.BytesIO()
    np.savez(content, mu=moments.mean.numpy(), sigma=moments.cov.numpy())
    with reporting(f"write {path}"):
        replace_file(path, content.getvalue())


def read_statistics(path: Path, width: int, extractor: str) -> Moments:
    """Read moments.

    Arguments:
        path: path of the file.
        width: F, the expected number of features.
        extractor: name of the extractor, for messages.

    Raises `DataError` if the file is damaged, lacks `mu` or `sigma`, or has another number of features.
    """
    names = names_in(path)
    if not {"mu", "sigma"} <= set(names):
        held = ", ".join(names) or "no arrays"
        raise DataError(f"{path}: has {held}, expected the arrays 'mu' and 'sigma'; create it with --save-stats")
    mean, cov = (torch.from_numpy(mapped_array(path, name).astype(np.float64)) for name in ("mu", "sigma"))
    if mean.shape != (width,) or cov.shape != (width, width):
        raise DataError(
            f"{path}: mu and sigma have shapes {tuple(mean.shape)} and {tuple(cov.shape)}, but {extractor} has {width} "
            "features; set evaluate.extractors to the network that created the file"
        )
    if not (mean.isfinite().all() and cov.isfinite().all()):
        raise DataError(f"{path}: mu or sigma is not finite; create the file again")
    return Moments(mean, cov)
