"""Options of a draw that differ between layers: a temperature for each layer, and upper layers that are given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hebm.arguments import require_at_least, require_counts
from hebm.errors import ConfigError
from hebm.fixed import Fixed
from hebm.latents import LatentLayout, Latents

Temperature = float | Sequence[float]
"""τ of all layers, or one τ for each layer, top first."""


def require_temperature(temperature: Temperature, layers: int) -> None:
    """Raise `ConfigError` unless it is a number of at least 0, or one such number for each layer."""
    if not isinstance(temperature, Sequence):
        _require_finite(temperature)
        return
    if len(temperature) != layers:
        raise ConfigError(
            f"temperature: {len(temperature)} numbers for {layers} latent layers; give one number, or one per layer, "
            "top first"
        )
    for value in temperature:
        _require_finite(value)


def _require_finite(temperature: float) -> None:
    require_at_least(0, temperature=temperature)
    if not math.isfinite(temperature):
        raise ConfigError(f"temperature: expected a finite number, got {temperature}")


def scaled(u: Tensor, temperature: Temperature, layout: LatentLayout) -> Tensor:
    """Return τ u of `(B, D)`, each layer with its own τ if there are several."""
    if not isinstance(temperature, Sequence):
        return temperature * u
    return layout.join([factor * part for factor, part in zip(temperature, layout.split(u), strict=True)])


def given_layers(layout: LatentLayout, given: Latents | None, layers: int, n: int) -> Fixed | None:
    """Return the upper layers of given latents as fixed coordinates, or None without given latents.

    Arguments:
        layout: the shapes of the layers.
        given: latents of n samples, or of one for all.
        layers: number of layers to take from them, from the top.
        n: number of samples.

    Raises `ConfigError` for another number of samples or of dimensions, or a number of layers that does not exist.
    """
    if given is None:
        if layers:
            raise ConfigError(f"given_layers = {layers} needs given: the latents to take these layers from")
        return None
    require_counts(given_layers=layers)
    if layers > len(layout):
        raise ConfigError(f"given_layers = {layers} is more than the {len(layout)} latent layers of this backbone")
    rows, dim = given.u.shape
    if dim != layout.dim or rows not in (1, n):
        raise ConfigError(
            f"given: its u has shape ({rows}, {dim}), expected ({n}, {layout.dim}) or (1, {layout.dim}); pass latents "
            "of this model, such as model.infer(images).latents"
        )
    return layout.fix(given.u.detach().expand(n, -1), range(layers))


def given_context(given: Latents | None, n: int) -> Tensor | None:
    """Return the context of given latents for n samples, or None."""
    if given is None or given.context is None:
        return None
    context: Tensor = given.context.detach()
    return context if len(context) == n else torch.repeat_interleave(context, n, 0)
