"""What a run says about a user's VAE before training."""

from __future__ import annotations

from torch import Tensor

from hebm.normals import Normal
from hebm_plugins.auto_encoder.moments import CHANNEL, NONE

_FAR = 1.5
"""The ratio of the latents' scale to that of the prior from which `standardise` is advised."""
_LISTED = 8


def report(found: Normal, mode: str, count: int, quality: float) -> list[str]:
    """Return notes: the fitted numbers, or advice to fit them, and a warning about poor reconstructions.

    Arguments:
        found: mean and standard deviation of z over training images.
        mode: "none", "scalar" or "channel".
        count: the number of images.
        quality: 1 − MSE / variance of the reconstructions.
    """
    numbers = f"mean {_shown(found.mean)}, standard deviation {_shown(found.std)}"
    notes = []
    if mode != NONE:
        each = " of each channel" if mode == CHANNEL else ""
        notes.append(f"backbone: z = shift + scale u is fitted to {count:,} training images{each}: {numbers}")
    elif not 1 / _FAR < float(found.std) < _FAR or abs(float(found.mean)) > 0.5:
        notes.append(
            f"backbone: the VAE's latents have {numbers}, far from its prior N(0, I); set standardise = "
            '"scalar" or "channel"'
        )
    if quality <= 0:
        notes.append(
            "backbone: the mean of the training images is as close to them as the VAE's reconstructions "
            f"(1 - MSE / variance = {quality:.2f}); check its weights, and the range of its images"
        )
    return notes


def _shown(values: Tensor) -> str:
    if values.ndim == 0:
        return f"{float(values):.4g}"
    flat = values.flatten()
    if len(flat) <= _LISTED:
        return "(" + ", ".join(f"{float(value):.4g}" for value in flat) + ")"
    return f"from {float(flat.min()):.4g} to {float(flat.max()):.4g}"
