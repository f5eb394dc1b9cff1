"""Checks of a backbone's inference model and objective.

Every check is called with a recipe and the images for which the backbone is built.
"""

from __future__ import annotations

import torch

from hebm.interfaces import BackboneRecipe, Batch, ImageSpec, InferringBackbone, Progress
from hebm.noise import Noise
from hebm.testing.backbones import ROWS, built_backbone
from hebm.testing.promises import (
    expect,
    expect_close,
    expect_equal,
    expect_finite,
    expect_gradients,
    expect_shape,
    no_global_randomness,
)
from hebm.testing.subjects import image_batch


def check_inference(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `infer` returns z = T(u), reparameterised, with log q and KL `(B, L)`.

    Passes if the backbone has no inference model.
    """
    backbone = built_backbone(recipe, images)
    if not isinstance(backbone, InferringBackbone):
        named = hasattr(backbone, "infer")
        expect(
            not named,
            "only an InferringBackbone has infer",
            "a Backbone with infer",
            "derive the class from InferringBackbone",
        )
        return
    posterior = backbone.infer(image_batch(images, ROWS), Noise(0, "infer"))
    latents, layers = posterior.latents, len(backbone.layout)
    expect_shape("u", latents.u, (ROWS, backbone.layout.dim), "return the latents from latents() or invert()")
    again = backbone.latents(latents.u, latents.context)
    expect_close(
        "the posterior's z = T(u)", latents.flat_z, again.flat_z, 1e-4, "return the latents from latents() or invert()"
    )
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
    expect(reached, "z is differentiable in the parameters of q(z|x)", "no gradient", fix)


def check_inferred_conditionals(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that `Posterior.q_u` satisfies log N(u_i; m_i, s_i²) = log q(z_i | ·) + Σ log σ_i.

    Passes if the backbone does not set `q_u`.
    """
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
    fix = "set q_u to q.in_units_of(p) of each layer, p = p(z_i | z_above); set none if q does not depend on z_above"
    expect_close("log N(u; q_u) = log q(z) + sum of log sigma", log_q, wanted, 1e-6, fix)


def check_inference_noise(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that the draw of `infer` depends only on the noise key, the row and x.

    Passes if the backbone has no inference model.
    """
    backbone = built_backbone(recipe, images)
    if not isinstance(backbone, InferringBackbone):
        return
    batch = image_batch(images, ROWS)
    last = Batch(batch.x[3:], batch.target[3:], None if batch.labels is None else batch.labels[3:], batch.index[3:])
    with torch.no_grad():
        a, b, c = (backbone.infer(batch, Noise(0, name)).latents.u for name in ("a", "a", "c"))
        tail = backbone.infer(last, Noise(0, "a", start=3)).latents.u
    fix = "draw by noise.normal(len(batch.x), …), one row per image; use no batch statistics in eval mode"
    expect_equal("the same key gives the same draw", a, b, fix)
    expect(not torch.equal(a, c), "different keys give different draws", "equal draws", fix)
    expect_close("rows 3 and 4 drawn with noise.at(3) equal rows 3 and 4 of the whole batch", tail, a[3:], 1e-4, fix)


def check_objective(recipe: BackboneRecipe, images: ImageSpec) -> None:
    """Check that the objective is a finite scalar with a gradient in every parameter.

    Passes if the backbone has no inference model.
    """
    backbone = built_backbone(recipe, images).train()
    if not isinstance(backbone, InferringBackbone):
        return
    with no_global_randomness("the objective"):
        loss = backbone.objective(image_batch(images, ROWS), Noise(0, "objective"), Progress(9, 10))
    expect_shape("loss.total", loss.total, (), "average over the batch")
    expect_finite("loss.total", loss.total, "bound log sigma of q(z|x) and of the likelihood")
    fix = "remove unused parameters, because training with several processes waits for their gradients"
    expect_gradients(
        loss.total, backbone.named_parameters(), "the objective has a gradient in every parameter", fix, nonzero=False
    )
    attached = [name for name, term in loss.terms.items() if term.requires_grad or term.ndim]
    expect(
        not attached,
        "terms that are detached scalars",
        f"attached or not scalar: {', '.join(attached)}",
        "use term.detach()",
    )
