"""Checks of a backbone. Every check is called with a recipe and the images for which the backbone is built."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hebm.gradients import PullsBack
from hebm.interfaces import Backbone, BackboneRecipe, FitsStatistics, ImageSpec, InferringBackbone
from hebm.latents import Latents
from hebm.noise import Noise
from hebm.testing.modules import expect_deepcopy, expect_seeded_build, expect_state_dict, floating
from hebm.testing.promises import (
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    expect_gradients,
    expect_shape,
    no_global_randomness,
)
from hebm.testing.subjects import contexts, image_batch, image_set, perturbed, points, seeded

ROWS = 5
LARGEST_JACOBIAN = 1024


def _build(recipe: BackboneRecipe, images: ImageSpec) -> Backbone:
    backbone = recipe.build(images)
    if isinstance(backbone, FitsStatistics):
        backbone.fit_statistics(image_set(images))
    return backbone


def built_backbone(recipe: BackboneRecipe, images: ImageSpec, dtype: torch.dtype = torch.float32) -> Backbone:
    """Return a backbone in eval mode, with its statistics and with weights that differ from the initial ones."""
    return perturbed(seeded(lambda: _build(recipe, images))).to(dtype).eval()


def _at(backbone: Backbone, rows: int = ROWS) -> Latents:
    """Return T at fixed points."""
    dtype = floating(backbone)
    return backbone.latents(points(rows, backbone.layout.dim, dtype), contexts(backbone.layout, rows, dtype))


def _outputs(backbone: Backbone, latents: Latents) -> Tensor:
    """Concatenate z, log σ and the image's mean, `(B, …)`."""
    image = backbone.likelihood(latents).mean
    return torch.cat([latents.flat_z, latents.log_sigma.unsqueeze(1), image.flatten(1)], dim=1)


def _evaluate(backbone: nn.Module) -> Tensor:
    if not isinstance(backbone, Backbone):
        raise TypeError(f"{type(backbone).__name__} is not a Backbone")
    with torch.no_grad():
        return _outputs(backbone, _at(backbone))


def check_latents(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `latents(u)` has u `(B, D)`, z_i `(B, *shape_i)`, σ_i > 0 that broadcasts, and the context."""
    backbone = built_backbone(recipe, images)
    latents, layout = _at(backbone), backbone.layout
    fix = "return Latents(u, z, sigma, context) with one z and one sigma per layer of the layout, top first"
    expect_shape("u", latents.u, (ROWS, layout.dim), fix)
    counts = len(latents.z), len(latents.sigma)
    expect(
        counts == (len(layout),) * 2,
        f"one z and one sigma for each of {len(layout)} layers",
        f"{counts[0]} z and {counts[1]} sigma",
        fix,
    )
    for i, (z, sigma, shape) in enumerate(zip(latents.z, latents.sigma, layout.shapes, strict=True)):
        expect_shape(f"z[{i}]", z, (ROWS, *shape), fix)
        expect_shape(f"sigma[{i}] broadcast with z[{i}]", sigma * z, (ROWS, *shape), fix)
        expect(
            bool((sigma > 0).all()),
            f"sigma[{i}] > 0",
            f"a minimum of {sigma.min().item():g}",
            "compute sigma by exp or softplus",
        )
    stated, has = ("no context" if none is None else "a context" for none in (layout.context, latents.context))
    expect(stated == has, f"latents with {stated}, as the layout says", has, fix)
    layout_fix = f"build the layout by LatentLayout(…, image={images.shape})"
    expect(
        layout.image in (None, images.shape),
        f"layout.image = {images.shape}, the shape of the images",
        str(layout.image),
        layout_fix,
    )


def check_likelihood(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `likelihood(latents)` has batch shape `(B,)`, event shape `(C, H, W)` and a mean in [−1, 1].

    Its arguments must not be validated, because that synchronises a GPU.
    """
    backbone = built_backbone(recipe, images)
    likelihood = backbone.likelihood(_at(backbone))
    fix = "return a distribution of hebm.likelihoods, or one with the same methods"
    seen = tuple(likelihood.batch_shape), tuple(likelihood.event_shape)
    expect(seen == ((ROWS,), images.shape), f"batch_shape ({ROWS},) and event_shape {images.shape}", str(seen), fix)
    checks = bool(getattr(likelihood, "_validate_args", False))
    expect(not checks, "a likelihood without argument validation", "it validates arguments", "pass validate_args=False")
    log_prob = likelihood.log_prob(image_batch(images, ROWS).target)
    expect_shape("log_prob(x)", log_prob, (ROWS,), fix)
    expect_finite("log_prob(x)", log_prob, "bound the logits or the standard deviation of p(x|z)")
    mean = likelihood.mean.detach()
    expect_shape("mean", mean, (ROWS, *images.shape), fix)
    largest = float(mean.abs().max())
    expect(
        largest <= 1 + 1e-5,
        "the mean of p(x|z) in [-1, 1]",
        f"|mean| up to {largest:g}",
        "scale the mean to the range of images",
    )


def check_inverse(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that T⁻¹(T(u)) = u and T(T⁻¹(z)) = z with equal σ, to 1e-5 in float32 and to 1e-9 in float64."""
    fix = "in invert(), compute u_i = (z_i - mean_i) / sigma_i with the nets and inputs of latents()"
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        backbone = built_backbone(recipe, images, dtype)
        with torch.no_grad():
            forth = _at(backbone)
            back = backbone.invert(forth.z, forth.context)
            again = backbone.latents(back.u, forth.context)
        expect_close(f"invert(latents(u).z).u = u in {dtype}", back.u, forth.u, tolerance, fix)
        expect_close(f"latents(invert(z).u).z = z in {dtype}", again.flat_z, forth.flat_z, tolerance, fix)
        expect_close(
            f"invert(z) has the log sigma of latents(u) in {dtype}", back.log_sigma, forth.log_sigma, tolerance, fix
        )


def check_log_determinant(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that Σ log σ equals log |det ∂z/∂u|, computed by autograd in float64."""
    backbone = built_backbone(recipe, images, torch.float64)
    dim = backbone.layout.dim
    expect(
        dim <= LARGEST_JACOBIAN,
        f"at most {LARGEST_JACOBIAN} latents, for this check",
        f"D = {dim}",
        "pass a smaller backbone to the checks",
    )
    u, context = points(1, dim, torch.float64), contexts(backbone.layout, 1, torch.float64)
    leaf = u.requires_grad_()
    z = backbone.latents(leaf, context).flat_z[0]
    jacobian = torch.stack([torch.autograd.grad(value, leaf, retain_graph=True)[0][0] for value in z])
    true = torch.linalg.slogdet(jacobian).logabsdet.unsqueeze(0)
    fix = "compute z_i = mean_i + sigma[i] u_i, where mean_i and sigma[i] do not depend on u_i"
    expect_close("latents.log_sigma = log|det dz/du|", backbone.latents(u, context).log_sigma.detach(), true, 1e-9, fix)


def check_pullback(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `latents_and_pullback` returns T(u) and the vector-Jacobian product of autograd (float64, 1e-12)."""
    backbone = built_backbone(recipe, images, torch.float64)
    if not isinstance(backbone, PullsBack):
        return
    u, context = points(ROWS, backbone.layout.dim, torch.float64), contexts(backbone.layout, ROWS, torch.float64)
    grads = backbone.layout.split(points(ROWS, backbone.layout.dim, torch.float64, "gradients"))
    wanted = torch.autograd.grad(backbone.latents(u.requires_grad_(), context).z, u, grads)[0]
    with torch.no_grad():
        latents, pullback = backbone.latents_and_pullback(u, context)
        fix = "return latents(u) and the function that maps gradients in z, top first, to the gradient in u"
        expect_close("latents_and_pullback(u) gives latents(u)", latents.flat_z, _at(backbone).flat_z, 1e-12, fix)
        expect_close("the pullback is that of autograd", pullback(grads), wanted, 1e-12, fix)


def check_batch_independence(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that T and the mean of p(x|z) treat each row independently.

    A row alone gives the same result as in a batch, and a NaN row changes no bit of the others.
    """
    backbone = built_backbone(recipe, images)
    u, context = points(ROWS, backbone.layout.dim), contexts(backbone.layout, ROWS)
    spoiled = u.clone()
    spoiled[1] = math.nan
    with torch.no_grad():
        whole = _outputs(backbone, backbone.latents(u, context))
        alone = _outputs(backbone, backbone.latents(u[2:3], None if context is None else context[2:3]))
        poisoned = _outputs(backbone, backbone.latents(spoiled, context))
    fix = "in eval mode, use no batch statistics and do not reduce over dimension 0"
    expect_close("a row alone has the results of the row in a batch", alone[0], whole[2], 1e-5, fix)
    keep = [0, *range(2, ROWS)]
    expect_equal("a NaN row does not change the other rows", poisoned[keep], whole[keep], fix)


def check_no_global_rng(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that T, T⁻¹, the likelihood and inference use no global generator, in train and eval mode."""
    backbone = built_backbone(recipe, images)
    batch = image_batch(images, ROWS)
    for training in (False, True):
        backbone.train(training)
        with no_global_randomness("the backbone"):
            latents = _at(backbone)
            backbone.invert(latents.z, latents.context)
            backbone.likelihood(latents).log_prob(batch.target)
            if isinstance(backbone, InferringBackbone):
                backbone.infer(batch, Noise(0, "infer"))


def check_generative_gradients(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that −log p(x|z) − log p_β(z) at fixed z has a gradient in every parameter of `generative()`."""
    backbone = built_backbone(recipe, images)
    with torch.no_grad():
        fixed = _at(backbone)
    latents = backbone.invert(fixed.z, fixed.context)
    loss = -(backbone.likelihood(latents).log_prob(image_batch(images, ROWS).target) + latents.root_log_prob).mean()
    wanted = {id(p) for module in backbone.generative() for p in module.parameters()}
    named = [(name, p) for name, p in backbone.named_parameters() if id(p) in wanted]
    fix = "keep invert(z) and the likelihood differentiable; leave the inference model out of generative()"
    # a gradient may be 0, because a rectifier may be inactive, but it must exist
    expect_gradients(loss, named, "-log p(x, z) has a gradient in every parameter of generative()", fix, nonzero=False)


def check_folded(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `folded()` returns a module with the same outputs, to 1e-5."""
    backbone = built_backbone(recipe, images)
    fix = "in folded(), precompute only what depends on the weights alone"
    expect_close(
        "folded() has the outputs of the backbone", _evaluate(backbone.folded()), _evaluate(backbone), 1e-5, fix
    )


def check_float64(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `.double()` gives float64 results that agree with float32."""
    double, single = (built_backbone(recipe, images, dtype) for dtype in (torch.float64, torch.float32))
    latents = _at(double)
    fix = "create tensors by u.new_zeros(…) or with dtype=u.dtype"
    parts = {"z": latents.flat_z, "log sigma": latents.log_sigma, "the mean": double.likelihood(latents).mean}
    narrow = [f"{name} is {part.dtype}" for name, part in parts.items() if part.dtype != torch.float64]
    expect(not narrow, "float64 results from float64 u", ", ".join(narrow), fix)
    u = points(ROWS, double.layout.dim).double()
    context = contexts(double.layout, ROWS)
    with torch.no_grad():
        wide = _outputs(double, double.latents(u, None if context is None else context.double()))
    expect_close(
        "float64 results agree with float32 results", wide.float(), _outputs_single(single, u, context), 1e-3, fix
    )


def _outputs_single(backbone: Backbone, u: Tensor, context: Tensor | None) -> Tensor:
    with torch.no_grad():
        return _outputs(backbone, backbone.latents(u.float(), context))


def check_state_dict(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that a backbone with the state_dict of another computes the same."""
    expect_state_dict(lambda: _build(recipe, images), _evaluate)


def check_deepcopy(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that a deep copy computes the same and shares no tensors with the original."""
    expect_deepcopy(lambda: _build(recipe, images), _evaluate)


def check_seeded_build(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that building twice with one seed of torch gives equal weights."""
    expect_seeded_build(lambda: _build(recipe, images))
