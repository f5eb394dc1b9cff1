"""Describe a model in an HTML table for notebooks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from hebm.html import html_table
from hebm.interfaces import Backbone, PriorLearner


def model_html(backbone: Backbone, prior: PriorLearner) -> str:
    """Return HTML tables of a model's latent layers with shapes, and of its numbers of parameters."""
    layout = backbone.layout
    layers = [(i, _shape(shape), _size(shape)) for i, shape in enumerate(layout.shapes)]
    context = (
        [] if layout.context is None else [("c, drawn before them", _shape(layout.context), _size(layout.context))]
    )
    latents = html_table(f"latent layers, top first: D = {layout.dim}", [*layers, *context], ("layer", "shape", "size"))
    parts = [
        (name, type(part).__name__, f"{count(part):,}") for name, part in (("backbone", backbone), ("prior", prior))
    ]
    return latents + html_table("modules", parts, ("", "class", "parameters"))


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _size(shape: Sequence[int]) -> int:
    return math.prod(shape)


def count(module: nn.Module) -> int:
    """Return the number of a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
