"""Draws of the prior and their images, a batch at a time, the i-th the same whatever the batch size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.evaluate.evaluation import Evaluation, evaluating
from hebm.evaluate.scores import Scorer, scan
from hebm.interfaces import PLAIN, Batch, Draw, PriorLearner, Request
from hebm.latents import Hold, Latents
from hebm.noise import Noise


def draws(
    evaluation: Evaluation,
    n: int,
    noise: Noise,
    request: Request = PLAIN,
    prior: PriorLearner | None = None,
    as_trained: bool = False,
) -> Draw:
    """n draws of the prior in question, or of another one, with what is asked of them: coordinates held, a context.

    Chains are as long as `evaluate.chain_steps` says, or `as_trained`.
    """
    prior, parts = prior or evaluation.prior, []
    steps = None if as_trained else evaluation.settings.chain_steps
    with evaluating(evaluation.backbone, evaluation.prior):
        for start in range(0, n, evaluation.settings.rows):
            rows = min(evaluation.settings.rows, n - start)
            few = slice(start, start + rows)
            hold = None if request.hold is None else Hold(request.hold.u[few], request.hold.held)
            context = None if request.context is None else request.context[few]
            given = Request(context=context, steps=steps, hold=hold)
            parts.append(prior.sample(evaluation.generator, rows, noise.at(start), given))
    contexts = [part.context for part in parts if part.context is not None]
    return Draw(torch.cat([part.u for part in parts]), torch.cat(contexts) if contexts else None)


def images_of(evaluation: Evaluation, draw: Draw) -> Tensor:
    """E[x | T(u; c)] in [−1, 1], `(n, C, H, W)`, of n draws."""
    return of_latents(evaluation, draw, lambda latents: evaluation.generator.likelihood(latents).mean)


def of_latents(evaluation: Evaluation, draw: Draw, function: Callable[[Latents], Tensor]) -> Tensor:
    """A function of T(u; c), `(n, …)`, of n draws, a batch at a time."""
    rows, parts = evaluation.settings.rows, []
    with evaluating(evaluation.backbone, evaluation.prior):
        for start in range(0, len(draw.u), rows):
            few = draw.rows(slice(start, start + rows))
            parts.append(function(evaluation.generator.latents(few.u, few.context)))
    return torch.cat(parts)


def repeated(context: Tensor | None, times: int) -> Tensor | None:
    """Each row so many times in a row."""
    return None if context is None else context.repeat_interleave(times, 0)


def contexts_of(evaluation: Evaluation, images: Images, scorer: Scorer, name: str = "inside") -> Tensor | None:
    """Contexts `(n, *context)` of the latents that `scan` infers from images under this name; None without any."""
    shape = evaluation.backbone.layout.context
    if shape is None:
        return None

    def context(batch: Batch, noise: Noise) -> Tensor:
        latents = scorer.inferred(batch, noise.derive(0))
        return batch.x.new_zeros(len(batch.x), 0) if latents.context is None else latents.context.flatten(1)

    found = scan(evaluation, images, context, name)
    return found.to(next(evaluation.backbone.parameters())).unflatten(1, shape)


def tilts(evaluation: Evaluation, prior: PriorLearner, draw: Draw) -> Tensor:
    """Log tilts of n draws under a prior, float64 `(n, E)` on the CPU."""
    return of_latents(evaluation, draw, prior.tilt).double().cpu()
