"""Check the sign of f in a prior's density and objective. Every check is called with a recipe and a live backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hebm.interfaces import (
    MCMC,
    Backbone,
    Latents,
    PriorLearner,
    PriorRecipe,
    Progress,
    Request,
    Stage,
    Tilt,
    root_of,
    tilt_of,
)
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.testing.long_chains import scale, start
from hebm.testing.prior_subjects import built, latents_at
from hebm.testing.promises import expect, expect_close
from hebm.testing.stein import BOUND
from hebm.testing.subjects import contexts, perturbed, points

POINTS = 64
ROWS = 64
REPEATS = (6, 24)
"""Number of gradients that are averaged at first, and if these do not decide."""
FAINT, NEAR_ZERO = -10.0, 0.05
"""Power of 2 that scales parameters so that f is near 0, and the largest |f| that counts as near."""
CLEAR, BALANCE = 0.9, 0.1
"""Least cosine between the gradients on two samples; largest rate that rounding and a short chain's bias may cause."""
STEPS = 1000
"""Training steps. Each gradient is computed at a different step, because stored negatives are used in turn."""


def check_tilt_in_density(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a change of parameters changes f and the density equally, up to a constant.

    If only the last chain has a density, it must rise with f. Passes without a tilt or a density.
    """
    prior, twin = built(recipe, backbone, torch.float64)
    whole = prior.density(twin) is not None
    before = _tilt_and_density(prior, twin)
    perturbed(prior, 0.05)
    after = _tilt_and_density(prior, twin)
    if before is None or after is None:
        return
    f, density = (_centred(b - a) for a, b in zip(before, after, strict=True))
    fix = "use the log tilt f with one sign: tilt() returns +f if the density is f(T(u)) - |u|^2/2; the energy is -f"
    if whole:
        expect_close(
            "the log density changes by the change of f, up to a constant", density, f, 1e-3 * float(f.std()), fix
        )
    elif float(f.std()) > 0 and float(density.std()) > 0:
        alike = float((f * density).mean() / (f.std(correction=0) * density.std(correction=0)))
        expect(
            alike > 0.5,
            "the log density of the last chain rises with f",
            f"a correlation of {alike:.2f}, at least 0.5 expected",
            fix,
        )


def _tilt_and_density(prior: PriorLearner, backbone: Backbone) -> tuple[Tensor, Tensor] | None:
    """Return f and log p of the prior, or of its last chain, `(n,)` each; None if one of them does not exist."""
    at, tilt = start(backbone, POINTS), tilt_of(prior)
    chains = [transition for transition in prior.transitions(backbone) if isinstance(transition, MCMC)]
    density = prior.density(backbone, at.context)
    if density is None and chains:
        density = chains[-1].density(at, Request())
    if density is None or tilt is None:
        return None
    u = points(POINTS, backbone.layout.dim, torch.float64, "points")
    with torch.no_grad():
        return tilt.at(backbone, backbone.latents(u, at.context)).sum(1), density.value_and_grad(u).value


def _centred(values: Tensor) -> Tensor:
    return values - values.mean()


def check_learning(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a step down each stage's loss raises f on posterior draws relative to draws of the prior.

    The rise must be 5 standard errors. Posterior draws lie around ±1 in every coordinate. Passes for stages that
    train no part of the tilt.
    """
    for k in range(len(built(recipe, backbone)[0].stages())):
        prior, twin = built(recipe, backbone, torch.float64, started=k + 1)
        stage, tilt = prior.stages()[k], tilt_of(prior)
        gap = None if tilt is None else _gap_gradient(prior, tilt, stage, twin)
        if gap is not None:
            _expect_raised(stage, gap, twin)


def _expect_raised(stage: Stage, gap: Sequence[Tensor], backbone: Backbone) -> None:
    rates: list[Tensor] = []
    for repeats in REPEATS:
        rates += [_rate(stage, gap, backbone, i) for i in range(len(rates), repeats)]
        found = torch.stack(rates)
        errors = float(found.mean() / (found.std() / len(found) ** 0.5 + 1e-300))
        if abs(errors) > BOUND:
            break
    expect(
        errors > BOUND,
        f"a step down the loss of stage {stage.name!r} raises f on posterior draws relative to draws of the prior",
        f"f {'rises' if errors > 0 else 'falls'} by {abs(errors):.1f} standard errors of {len(found)} gradients",
        "use loss = f(negative).mean() - f(positive).mean(), because f is large where latents are likely",
    )


def _rate(stage: Stage, gap: Sequence[Tensor], backbone: Backbone, i: int) -> Tensor:
    """Return the rate at which a step down the loss of one batch raises the gap, −⟨∇L, ∇gap⟩, a scalar."""
    posterior = Posterior(shifted(backbone, stage.module, ROWS, f"posterior-{i}"))
    noise = Noise(i, "objective", dtype=torch.float64)
    loss = stage.objective(backbone, posterior, noise, Progress(i, STEPS)).total
    grads = _gradients(loss, stage.module)
    return -torch.stack([(a * b).sum() for a, b in zip(grads, gap, strict=True)]).sum()


def check_balance(recipe: PriorRecipe, backbone: Backbone) -> None:
    """Check that a step down each stage's loss keeps the mean of f if posterior draws are draws of the prior.

    For this check, f is near 0 and posterior draws come from the root, so there is nothing to learn. Passes if the
    mean of f has no clear gradient.
    """
    for k in range(len(built(recipe, backbone)[0].stages())):
        prior, twin = built(recipe, backbone, torch.float64, started=k + 1)
        stage, tilt = prior.stages()[k], tilt_of(prior)
        held = {id(parameter) for parameter in root_of(prior).parameters()}
        scale([p for p in prior.parameters() if p.requires_grad and id(p) not in held], FAINT)
        level = None if tilt is None else _level_gradient(prior, tilt, stage, twin)
        if level is not None:
            _expect_balanced(stage, level, twin)


def _level_gradient(prior: PriorLearner, tilt: Tilt, stage: Stage, backbone: Backbone) -> list[Tensor] | None:
    """Return the gradient of E_root[f] in a stage's parameters; None if f is not near 0 or the gradient is unclear."""
    grads = []
    for name in ("level", "again"):
        f = tilt.f(_root_latents(backbone, prior, name)).sum(1)
        if not f.requires_grad or float(f.detach().abs().max()) > NEAR_ZERO:
            return None
        grads.append(_gradients(f.mean(), stage.module))
    one, other = (torch.cat([grad.flatten() for grad in each]) for each in grads)
    alike = float(torch.nn.functional.cosine_similarity(one, other, dim=0)) if bool(one.any()) else 0.0
    return grads[0] if alike > CLEAR else None


def _root_latents(backbone: Backbone, module: nn.Module, name: str) -> Latents:
    return latents_at(backbone, module, points(ROWS, backbone.layout.dim, torch.float64, name))


def _expect_balanced(stage: Stage, level: Sequence[Tensor], backbone: Backbone) -> None:
    size = torch.stack([grad.square().sum() for grad in level]).sum()
    rates = []
    for i in range(REPEATS[0]):
        posterior = Posterior(_root_latents(backbone, stage.module, f"root-{i}"))
        noise = Noise(i, "objective", dtype=torch.float64)
        loss = stage.objective(backbone, posterior, noise, Progress(i, STEPS)).total
        grads = _gradients(loss, stage.module)
        rates.append(torch.stack([(a * b).sum() for a, b in zip(grads, level, strict=True)]).sum() / size)
    found = torch.stack(rates)
    rate, error = -float(found.mean()), float(found.std() / len(found) ** 0.5)
    expect(
        abs(rate) <= BALANCE + BOUND * error,
        f"a step down the loss of stage {stage.name!r} keeps the mean of f if posterior draws are draws of the prior",
        f"the step {'raises' if rate > 0 else 'lowers'} the mean of f at a rate of {abs(rate):.2g}",
        "give the loss a negative phase of opposite sign and equal weight, so that f falls on draws of the prior",
    )


def _gap_gradient(prior: PriorLearner, tilt: Tilt, stage: Stage, backbone: Backbone) -> list[Tensor] | None:
    """Return the gradient of E_posterior[f] − E_prior[f] in a stage's parameters; None if f uses none of them."""
    rows, context = 4 * ROWS, contexts(backbone.layout, 4 * ROWS, torch.float64)
    noise = Noise(0, "prior", dtype=torch.float64)
    u = prior.sample(backbone, rows, noise, Request(context=context)).u
    both = shifted(backbone, prior, rows, "posterior"), latents_at(backbone, prior, u)
    high, low = (tilt.f(latents).sum(1).mean() for latents in both)
    grads = _gradients(high - low, stage.module) if (high - low).requires_grad else []
    return grads if any(bool(grad.any()) for grad in grads) else None


def _gradients(value: Tensor, module: nn.Module) -> list[Tensor]:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True))


def shifted(backbone: Backbone, module: nn.Module, rows: int, name: str) -> Latents:
    """Return latents of u = ±1 + ξ/2, where every row has the same signs."""
    dim = backbone.layout.dim
    shift = points(1, dim, torch.float64, "shift").sign()
    return latents_at(backbone, module, shift + 0.5 * points(rows, dim, torch.float64, name))
