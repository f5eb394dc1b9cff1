"""What a backbone promises. Every check is called with a recipe and the images it is built for."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hebm.gradients import PullsBack
from hebm.interfaces import Backbone, BackboneRecipe, Batch, FitsStatistics, ImageSpec, InferringBackbone, Progress
from hebm.latents import Latents
from hebm.noise import Noise
from hebm.testing.modules import expect_deepcopy, expect_seeded_build, expect_state_dict, floating
from hebm.testing.promises import (
    expect_close,
    expect_equal,
    expect_finite,
    expect_gradients,
    expect_shape,
    no_global_randomness,
    promise,
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
    """Return a backbone away from its initial weights, with its statistics, in eval mode."""
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
    """`latents(u)` holds u `(B, D)`, z_i `(B, *shape_i)`, σ_i > 0 broadcastable to z_i, and the context."""
    backbone = built_backbone(recipe, images)
    latents, layout = _at(backbone), backbone.layout
    fix = "return Latents(u, z, sigma, context) with one z and one sigma per layer of the layout, top first"
    expect_shape("u", latents.u, (ROWS, layout.dim), fix)
    counts = len(latents.z), len(latents.sigma)
    promise(counts == (len(layout),) * 2, f"{len(layout)} z and sigma", f"{counts[0]} and {counts[1]}", fix)
    for i, (z, sigma, shape) in enumerate(zip(latents.z, latents.sigma, layout.shapes, strict=True)):
        expect_shape(f"z[{i}]", z, (ROWS, *shape), fix)
        expect_shape(f"sigma[{i}] broadcast with z[{i}]", sigma * z, (ROWS, *shape), fix)
        promise(bool((sigma > 0).all()), f"sigma[{i}] > 0", f"least {sigma.min().item():g}", "use exp or softplus")
    promise((latents.context is None) == (layout.context is None), "context as the layout says", "other", fix)
    layout_fix = f"LatentLayout(..., image={images.shape})"
    promise(layout.image in (None, images.shape), "the images' shape in the layout", str(layout.image), layout_fix)


def check_likelihood(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`likelihood(latents)` has batch shape (B,), the image as event, no argument checks, mean in [−1, 1]."""
    backbone = built_backbone(recipe, images)
    likelihood = backbone.likelihood(_at(backbone))
    fix = "return a distribution of hebm.likelihoods, or one like it"
    seen = tuple(likelihood.batch_shape), tuple(likelihood.event_shape)
    promise(seen == ((ROWS,), images.shape), f"batch (B,) = ({ROWS},), event {images.shape}", str(seen), fix)
    checks = bool(getattr(likelihood, "_validate_args", False))
    promise(not checks, "no argument checks", "they are on", "pass validate_args=False: they synchronise a GPU")
    log_prob = likelihood.log_prob(image_batch(images, ROWS).target)
    expect_shape("log_prob(x)", log_prob, (ROWS,), fix)
    expect_finite("log_prob(x)", log_prob, "bound the logits or the standard deviation")
    mean = likelihood.mean.detach()
    expect_shape("mean", mean, (ROWS, *images.shape), fix)
    largest = float(mean.abs().max())
    promise(largest <= 1 + 1e-5, "mean in [-1, 1]", f"|mean| up to {largest:g}", "map to the one range of images")


def check_inverse(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """T⁻¹(T(u)) = u and T(T⁻¹(z)) = z, to 1e-5 in float32 and 1e-9 in float64, with the same σ."""
    fix = "compute u_i = (z_i - mean_i) / sigma_i with the same nets and the same inputs as in latents()"
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        backbone = built_backbone(recipe, images, dtype)
        with torch.no_grad():
            forth = _at(backbone)
            back = backbone.invert(forth.z, forth.context)
            again = backbone.latents(back.u, forth.context)
        expect_close(f"invert(latents(u).z).u = u in {dtype}", back.u, forth.u, tolerance, fix)
        expect_close(f"latents(invert(z).u).z = z in {dtype}", again.flat_z, forth.flat_z, tolerance, fix)
        expect_close(f"invert gives the same log sigma in {dtype}", back.log_sigma, forth.log_sigma, tolerance, fix)


def check_log_determinant(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Σ log σ is log |det ∂z/∂u|, by autograd, in float64."""
    backbone = built_backbone(recipe, images, torch.float64)
    dim = backbone.layout.dim
    promise(dim <= LARGEST_JACOBIAN, f"D <= {LARGEST_JACOBIAN} for this check", f"D = {dim}", "check a smaller recipe")
    u, context = points(1, dim, torch.float64), contexts(backbone.layout, 1, torch.float64)
    leaf = u.requires_grad_()
    z = backbone.latents(leaf, context).flat_z[0]
    jacobian = torch.stack([torch.autograd.grad(value, leaf, retain_graph=True)[0][0] for value in z])
    true = torch.linalg.slogdet(jacobian).logabsdet.unsqueeze(0)
    fix = "sigma[i] must be the factor that multiplies u_i, and z_i may depend on u_i through it alone"
    expect_close("latents.log_sigma = log|det dz/du|", backbone.latents(u, context).log_sigma.detach(), true, 1e-9, fix)


def check_pullback(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`latents_and_pullback` returns T(u) and its vector-Jacobian product, that of autograd in float64 to 1e-12."""
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
    """Each row depends on its own row alone: a row by itself is equal, NaN in others changes no bit."""
    backbone = built_backbone(recipe, images)
    u, context = points(ROWS, backbone.layout.dim), contexts(backbone.layout, ROWS)
    spoiled = u.clone()
    spoiled[1] = math.nan
    with torch.no_grad():
        whole = _outputs(backbone, backbone.latents(u, context))
        alone = _outputs(backbone, backbone.latents(u[2:3], None if context is None else context[2:3]))
        poisoned = _outputs(backbone, backbone.latents(spoiled, context))
    fix = "no batch statistics in eval mode, no reductions over dimension 0"
    expect_close("a row of a batch equals the row alone", alone[0], whole[2], 1e-5, fix)
    keep = [0, *range(2, ROWS)]
    expect_equal("a NaN row leaves the others unchanged", poisoned[keep], whole[keep], fix)


def check_no_global_rng(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Neither T, T⁻¹, the likelihood, inference nor the objective reads a global generator (train and eval mode)."""
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
    """−log p(x|z) − log p_β(z) at fixed z reaches every parameter of `generative()`."""
    backbone = built_backbone(recipe, images)
    with torch.no_grad():
        fixed = _at(backbone)
    latents = backbone.invert(fixed.z, fixed.context)
    loss = -(backbone.likelihood(latents).log_prob(image_batch(images, ROWS).target) + latents.root_log_prob).mean()
    wanted = {id(p) for module in backbone.generative() for p in module.parameters()}
    named = [(name, p) for name, p in backbone.named_parameters() if id(p) in wanted]
    fix = "invert(z) and likelihood must stay differentiable; leave the inference model out of generative()"
    # a rectifier that happens to be off gives 0: only what is cut off is at fault
    expect_gradients(loss, named, "-log p(x, z) reaches every generative parameter", fix, nonzero=False)


def check_inference(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`infer` gives z = T(u), log q and KL `(B, L)`, reparameterised. Passes without an inference model."""
    backbone = built_backbone(recipe, images)
    if not isinstance(backbone, InferringBackbone):
        named = hasattr(backbone, "infer")
        promise(not named, "only an InferringBackbone has infer", "a Backbone has it", "derive from InferringBackbone")
        return
    posterior = backbone.infer(image_batch(images, ROWS), Noise(0, "infer"))
    latents, layers = posterior.latents, len(backbone.layout)
    expect_shape("u", latents.u, (ROWS, backbone.layout.dim), "return latents made by latents() or invert()")
    again = backbone.latents(latents.u, latents.context)
    expect_close("the posterior's z = T(u)", latents.flat_z, again.flat_z, 1e-4, "make it by latents() or invert()")
    for name, terms in (("log_q", posterior.log_q), ("kl", posterior.kl)):
        if terms is not None:
            expect_shape(name, terms, (ROWS, layers), "one column per layer, top first")
            expect_finite(name, terms, "bound log sigma of q(z|x)")
    parts = {id(p) for module in backbone.generative() for p in module.parameters()}
    inference = [p for p in backbone.parameters() if id(p) not in parts] or list(backbone.parameters())
    loss = latents.flat_z.square().sum()
    grads = torch.autograd.grad(loss, inference, allow_unused=True) if loss.requires_grad else ()
    reached = any(g is not None and bool(g.any()) for g in grads)
    fix = "draw z = mean + std * noise.normal(...), without detach or no_grad"
    promise(reached, "z is reparameterised: differentiable in q(z|x)", "no gradient arrives", fix)


def check_inferred_conditionals(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`Posterior.q_u` is q in units of p: log N(u_i; m_i, s_i²) = log q(z_i | ·) + Σ log σ_i. Passes without it."""
    backbone = built_backbone(recipe, images, torch.float64)
    if not isinstance(backbone, InferringBackbone):
        return
    with torch.no_grad():
        found = backbone.infer(image_batch(images, ROWS, torch.float64), Noise(0, "infer", dtype=torch.float64))
    if found.q_u is None or found.log_q is None:
        return
    latents, u = found.latents, backbone.layout.split(found.latents.u)
    scales = [s.expand_as(z).flatten(1).log().sum(1) for s, z in zip(latents.sigma, latents.z, strict=True)]
    wanted = found.log_q + torch.stack(scales, dim=1)
    log_q = torch.stack([q.log_prob(part) for q, part in zip(found.q_u, u, strict=True)], dim=1)
    fix = "q_u = q.in_units_of(p) of each layer, p = p(z_i | z_above); leave it out where q does not depend on z_above"
    expect_close("log N(u; q_u) = log q(z) + sum log sigma", log_q, wanted, 1e-6, fix)


def check_inference_noise(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """The draw of `infer` is a function of noise key, row and x. Passes without an inference model."""
    backbone = built_backbone(recipe, images)
    if not isinstance(backbone, InferringBackbone):
        return
    batch = image_batch(images, ROWS)
    last = Batch(batch.x[3:], batch.target[3:], None if batch.labels is None else batch.labels[3:], batch.index[3:])
    with torch.no_grad():
        a, b, c = (backbone.infer(batch, Noise(0, name)).latents.u for name in ("a", "a", "c"))
        tail = backbone.infer(last, Noise(0, "a", start=3)).latents.u
    fix = "draw by noise.normal(len(batch.x), ...), rows being samples; no batch statistics in eval mode"
    expect_equal("the same key gives the same draw", a, b, fix)
    promise(not torch.equal(a, c), "another key gives another draw", "the same draw", fix)
    expect_close("rows 3, 4 with noise.at(3) are rows 3, 4 of the whole batch", tail, a[3:], 1e-4, fix)


def check_objective(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """The objective is a finite scalar that reaches every parameter. Passes without an inference model."""
    backbone = built_backbone(recipe, images).train()
    if not isinstance(backbone, InferringBackbone):
        return
    with no_global_randomness("the objective"):
        loss = backbone.objective(image_batch(images, ROWS), Noise(0, "objective"), Progress(9, 10))
    expect_shape("loss.total", loss.total, (), "average over the batch")
    expect_finite("loss.total", loss.total, "bound log sigma of q(z|x) and of the likelihood")
    fix = "drop parameters that are not used: several processes would wait for their gradients"
    expect_gradients(
        loss.total, backbone.named_parameters(), "the objective reaches every parameter", fix, nonzero=False
    )
    attached = [name for name, term in loss.terms.items() if term.requires_grad or term.ndim]
    promise(not attached, "terms are detached scalars", f"attached to a graph: {', '.join(attached)}", "term.detach()")


def check_folded(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`folded()` computes the same, to 1e-5."""
    backbone = built_backbone(recipe, images)
    fix = "fold what depends on weights alone; change no formula"
    expect_close("folded() computes the same", _evaluate(backbone.folded()), _evaluate(backbone), 1e-5, fix)


def check_float64(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """`.double()` gives float64 results close to those in float32."""
    double, single = (built_backbone(recipe, images, dtype) for dtype in (torch.float64, torch.float32))
    latents = _at(double)
    fix = "make tensors by u.new_zeros(...) or with dtype=u.dtype"
    parts = {"z": latents.flat_z, "log sigma": latents.log_sigma, "the mean": double.likelihood(latents).mean}
    narrow = [f"{name} is {part.dtype}" for name, part in parts.items() if part.dtype != torch.float64]
    promise(not narrow, "float64 in, float64 out", ", ".join(narrow), fix)
    u = points(ROWS, double.layout.dim).double()
    context = contexts(double.layout, ROWS)
    with torch.no_grad():
        wide = _outputs(double, double.latents(u, None if context is None else context.double()))
    expect_close("float64 agrees with float32", wide.float(), _outputs_single(single, u, context), 1e-3, fix)


def _outputs_single(backbone: Backbone, u: Tensor, context: Tensor | None) -> Tensor:
    with torch.no_grad():
        return _outputs(backbone, backbone.latents(u.float(), context))


def check_state_dict(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """What is learned survives safetensors."""
    expect_state_dict(lambda: _build(recipe, images), _evaluate)


def check_deepcopy(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """A deep copy is equal and independent."""
    expect_deepcopy(lambda: _build(recipe, images), _evaluate)


def check_seeded_build(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Building is a function of torch's seed."""
    expect_seeded_build(lambda: _build(recipe, images))
