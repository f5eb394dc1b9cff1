"""What a backbone promises of single rows, and of parameters and statistics far from their initial values.

Every check is called with a recipe and the images it is built for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hebm.interfaces import Backbone, BackboneRecipe, Batch, ImageSpec, InferringBackbone, Posterior, Progress
from hebm.noise import Noise
from hebm.testing.backbones import ROWS, built_backbone
from hebm.testing.promises import expect_close, expect_equal
from hebm.testing.subjects import contexts, image_batch, perturbed, points

FAR = 4.0
"""Deviations of u at which T is inverted, too."""
PASSES = 2
KEEP = [0, *range(2, ROWS)]
"""The rows next to a NaN row."""
FEW = 3


def check_inverse_after_training(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """T⁻¹(T(u)) = u in float64 far from initial parameters and statistics, and for |u| far out."""
    backbone = perturbed(built_backbone(recipe, images, torch.float64), 0.1)
    _move_statistics(backbone, images)
    context = contexts(backbone.layout, ROWS, torch.float64)
    fix = "use the same nets, statistics and bounds in invert() and latents(); do not clamp u or z"
    for size in (1.0, FAR):
        u = size * points(ROWS, backbone.layout.dim, torch.float64)
        with torch.no_grad():
            z = backbone.latents(u, context).z
            back = backbone.invert(z, context)
        expect_close(f"invert(latents(u).z).u = u at {size:g} deviations", back.u, u, 1e-7, fix)


@torch.no_grad()
def _move_statistics(backbone: Backbone, images: ImageSpec) -> None:
    """Run some passes in training mode: they move what is averaged over batches."""
    backbone.train()
    for i in range(PASSES):
        u = 1 + points(ROWS, backbone.layout.dim, torch.float64, f"pass-{i}")
        backbone.likelihood(backbone.latents(u, contexts(backbone.layout, ROWS, torch.float64)))
        if isinstance(backbone, InferringBackbone):
            backbone.infer(image_batch(images, ROWS, torch.float64), Noise(i, "infer", dtype=torch.float64))
    backbone.eval()


def check_inversion_rows(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`invert` and `log_prob` treat each row by itself: a row alone is equal, NaN in another changes no bit."""
    backbone = built_backbone(recipe, images)
    target, fix = image_batch(images, ROWS).target, "no batch statistics in eval mode, no reductions over dimension 0"
    context = contexts(backbone.layout, ROWS)

    def inverted(z: tuple[Tensor, ...], x: Tensor, some: slice) -> Tensor:
        latents = backbone.invert([part[some] for part in z], None if context is None else context[some])
        log_prob = backbone.likelihood(latents).log_prob(x[some])
        return torch.cat([latents.u, latents.log_sigma.unsqueeze(1), log_prob.unsqueeze(1)], dim=1)

    with torch.no_grad():
        z = backbone.latents(points(ROWS, backbone.layout.dim), context).z
        whole, alone = inverted(z, target, slice(None)), inverted(z, target, slice(2, 3))
        poisoned = inverted(tuple(map(_poisoned, z)), _poisoned(target), slice(None))
    expect_close("u, log sigma and log p(x|z) of a row alone", alone[0], whole[2], 1e-4, fix)
    expect_equal("a NaN row leaves u, log sigma and log p(x|z) of the others", poisoned[KEEP], whole[KEEP], fix)


def _poisoned(part: Tensor) -> Tensor:
    spoiled = part.clone()
    spoiled[1] = math.nan
    return spoiled


def check_inference_rows(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`infer` treats each image by itself: a NaN image changes no bit of u, log q, KL and log r of the others.

    Passes without an inference model.
    """
    backbone = built_backbone(recipe, images)
    if not isinstance(backbone, InferringBackbone):
        return
    batch = image_batch(images, ROWS)
    spoiled = Batch(_poisoned(batch.x), _poisoned(batch.target), batch.labels, batch.index)
    with torch.no_grad():
        clean, poisoned = (_parts(backbone.infer(each, Noise(0, "infer"))) for each in (batch, spoiled))
    fix = "no batch statistics in eval mode, no reductions over dimension 0"
    for name, part in clean.items():
        expect_equal(f"a NaN image leaves {name} of the others", poisoned[name][KEEP], part[KEEP], fix)


def _parts(posterior: Posterior) -> dict[str, Tensor]:
    """Return u and what a posterior has of log q, KL and log r, with a row per image."""
    parts = {"log q": posterior.log_q, "KL": posterior.kl, "log r": posterior.log_r}
    return {"u": posterior.latents.u, **{name: part for name, part in parts.items() if part is not None}}


def check_objective_rows(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """The objective is a mean over rows (eval mode): an image's gradient, times B, does not depend on the other rows.

    Passes without an inference model.
    """
    backbone = built_backbone(recipe, images, torch.float64)
    if not isinstance(backbone, InferringBackbone):
        return
    batch = image_batch(images, ROWS, torch.float64)
    whole = ROWS * _image_gradient(backbone, batch)[:FEW]
    labels = None if batch.labels is None else batch.labels[:FEW]
    few = Batch(batch.x[:FEW], batch.target[:FEW], labels, batch.index[:FEW])
    alone = FEW * _image_gradient(backbone, few)
    fix = "average a term of each row, loss.mean(); terms of the batch as a whole belong in training mode alone"
    expect_close(f"B times the gradient of {FEW} images, alone and among {ROWS}", alone, whole, 1e-6, fix)


def _image_gradient(backbone: InferringBackbone, batch: Batch) -> Tensor:
    """Return the gradient of the objective in x and target, `(B, 2, …)`."""
    x, target = batch.x.clone().requires_grad_(), batch.target.clone().requires_grad_()
    moved = Batch(x, target, batch.labels, batch.index)
    loss = backbone.objective(moved, Noise(0, "objective", dtype=torch.float64), Progress(9, 10, len(x)))
    grads = torch.autograd.grad(loss.total, (x, target), allow_unused=True, materialize_grads=True)
    return torch.stack(grads, dim=1)
