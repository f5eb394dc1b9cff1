"""Checks of a backbone: single rows, and T⁻¹ after training.

Every check is called with a recipe and the images for which the backbone is built.
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
"""Standard deviation of the larger u at which T is inverted."""
PASSES = 2
"""Forward passes in training mode that move batch statistics."""
KEEP = [0, *range(2, ROWS)]
"""The rows that are not NaN."""
FEW = 3


def check_inverse_after_training(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that T⁻¹(T(u)) = u in float64 with changed parameters and statistics, and for large |u|."""
    backbone = perturbed(built_backbone(recipe, images, torch.float64), 0.1)
    _move_statistics(backbone, images)
    context = contexts(backbone.layout, ROWS, torch.float64)
    fix = "use the same networks, statistics and bounds in invert() and latents(), and do not clamp u or z"
    for size in (1.0, FAR):
        u = size * points(ROWS, backbone.layout.dim, torch.float64)
        with torch.no_grad():
            z = backbone.latents(u, context).z
            back = backbone.invert(z, context)
        expect_close(f"invert(latents(u).z).u = u for u with standard deviation {size:g}", back.u, u, 1e-7, fix)


@torch.no_grad()
def _move_statistics(backbone: Backbone, images: ImageSpec) -> None:
    """Run forward passes in training mode, which move averages over batches."""
    backbone.train()
    for i in range(PASSES):
        u = 1 + points(ROWS, backbone.layout.dim, torch.float64, f"pass-{i}")
        backbone.likelihood(backbone.latents(u, contexts(backbone.layout, ROWS, torch.float64)))
        if isinstance(backbone, InferringBackbone):
            backbone.infer(image_batch(images, ROWS, torch.float64), Noise(i, "infer", dtype=torch.float64))
    backbone.eval()


def check_inversion_rows(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `invert` and `log_prob` treat each row independently.

    A row alone gives the same result as in a batch, and a NaN row changes no bit of the others.
    """
    backbone = built_backbone(recipe, images)
    target, fix = (
        image_batch(images, ROWS).target,
        "in eval mode, use no batch statistics and do not reduce over dimension 0",
    )
    context = contexts(backbone.layout, ROWS)

    def inverted(z: tuple[Tensor, ...], x: Tensor, some: slice) -> Tensor:
        latents = backbone.invert([part[some] for part in z], None if context is None else context[some])
        log_prob = backbone.likelihood(latents).log_prob(x[some])
        return torch.cat([latents.u, latents.log_sigma.unsqueeze(1), log_prob.unsqueeze(1)], dim=1)

    with torch.no_grad():
        z = backbone.latents(points(ROWS, backbone.layout.dim), context).z
        whole, alone = inverted(z, target, slice(None)), inverted(z, target, slice(2, 3))
        poisoned = inverted(tuple(map(_poisoned, z)), _poisoned(target), slice(None))
    expect_close(
        "u, log sigma and log p(x|z) of a row alone equal those of the row in a batch", alone[0], whole[2], 1e-4, fix
    )
    expect_equal(
        "a NaN row does not change u, log sigma and log p(x|z) of the other rows", poisoned[KEEP], whole[KEEP], fix
    )


def _poisoned(part: Tensor) -> Tensor:
    spoiled = part.clone()
    spoiled[1] = math.nan
    return spoiled


def check_inference_rows(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `infer` treats each image independently.

    A NaN image changes no bit of u, log q, KL and log r of the other images. Passes if the backbone has no inference
    model.
    """
    backbone = built_backbone(recipe, images)
    if not isinstance(backbone, InferringBackbone):
        return
    batch = image_batch(images, ROWS)
    spoiled = Batch(_poisoned(batch.x), _poisoned(batch.target), batch.labels, batch.index)
    with torch.no_grad():
        clean, poisoned = (_parts(backbone.infer(each, Noise(0, "infer"))) for each in (batch, spoiled))
    fix = "in eval mode, use no batch statistics and do not reduce over dimension 0"
    for name, part in clean.items():
        expect_equal(f"a NaN image does not change {name} of the other images", poisoned[name][KEEP], part[KEEP], fix)


def _parts(posterior: Posterior) -> dict[str, Tensor]:
    """Return u, and those of log q, KL and log r that a posterior has, with a row per image."""
    parts = {"log q": posterior.log_q, "KL": posterior.kl, "log r": posterior.log_r}
    return {"u": posterior.latents.u, **{name: part for name, part in parts.items() if part is not None}}


def check_objective_rows(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that the objective in eval mode is a mean over rows.

    B times the gradient of one image must not depend on the other images. Passes if the backbone has no inference
    model.
    """
    backbone = built_backbone(recipe, images, torch.float64)
    if not isinstance(backbone, InferringBackbone):
        return
    batch = image_batch(images, ROWS, torch.float64)
    whole = ROWS * _image_gradient(backbone, batch)[:FEW]
    labels = None if batch.labels is None else batch.labels[:FEW]
    few = Batch(batch.x[:FEW], batch.target[:FEW], labels, batch.index[:FEW])
    alone = FEW * _image_gradient(backbone, few)
    fix = "average one term per row, loss.mean(); use terms of the whole batch in training mode only"
    expect_close(
        f"B times the gradient in {FEW} images is the same in a batch of {FEW} and of {ROWS}", alone, whole, 1e-6, fix
    )


def _image_gradient(backbone: InferringBackbone, batch: Batch) -> Tensor:
    """Return the gradient of the objective with respect to x and target, `(B, 2, …)`."""
    x, target = batch.x.clone().requires_grad_(), batch.target.clone().requires_grad_()
    moved = Batch(x, target, batch.labels, batch.index)
    loss = backbone.objective(moved, Noise(0, "objective", dtype=torch.float64), Progress(9, 10, len(x)))
    grads = torch.autograd.grad(loss.total, (x, target), allow_unused=True, materialize_grads=True)
    return torch.stack(grads, dim=1)
