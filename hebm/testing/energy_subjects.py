"""Build an energy for its checks, and latents with every input that energies can read."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.interfaces import EnergyFn, EnergyRecipe, ImageSpec
from hebm.latents import LatentLayout, Latents
from hebm.testing.subjects import SMALL_IMAGES, ReferenceBackbone, contexts, perturbed, points, seeded
from hebm.tilts import SHOWN, shown

ROWS = 5


def built(recipe: EnergyRecipe, layout: LatentLayout, levels: int, logits: int = 1) -> EnergyFn:
    """Return an energy for the reference backbone in eval mode, with weights that differ from the initial ones."""
    return perturbed(seeded(lambda: recipe.build(shown_by(layout), logits, levels))).eval()


def reference(layout: LatentLayout, dtype: torch.dtype = torch.float32) -> ReferenceBackbone:
    """Return the reference backbone of a layout, for images of the layout's shape if it has one."""
    images = SMALL_IMAGES if layout.image is None else ImageSpec(*layout.image)
    return perturbed(seeded(lambda: ReferenceBackbone(layout, images))).to(dtype)


def shown_by(layout: LatentLayout) -> LatentLayout:
    """Return the layout with the shapes of all inputs that the reference backbone provides to energies."""
    return reference(layout).layout


def latents_of(layout: LatentLayout, dtype: torch.dtype = torch.float32, u: Tensor | None = None) -> Latents:
    """Return T(u) of the reference backbone, by default at fixed points, with every input that energies can read."""
    backbone, at = reference(layout, dtype), points(ROWS, layout.dim, dtype) if u is None else u
    return shown(backbone, backbone.latents(at, contexts(layout, len(at), dtype)), tuple(SHOWN))


def times(levels: int, rows: int = ROWS) -> Tensor | None:
    """Return levels t that alternate from row to row, `(rows,)`; None for one level."""
    return None if levels == 1 else torch.arange(rows) % levels


def rows_of(latents: Latents, few: slice) -> Latents:
    """Return some rows of latents, with their inputs for energies."""
    z, sigma = ([part[few] for part in parts] for parts in (latents.z, latents.sigma))
    context = None if latents.context is None else latents.context[few]
    seen = {
        name: part[few] if isinstance(part, Tensor) else tuple(each[few] for each in part)
        for name, part in latents.shown.items()
    }
    return Latents(latents.u[few], tuple(z), tuple(sigma), context, shown=seen)
