"""Draws of the prior and their images, a batch at a time, the i-th the same whatever the batch size."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.evaluate.evaluation import Evaluation, evaluating
from hebm.interfaces import PriorLearner
from hebm.latents import Hold
from hebm.noise import Noise

CONTEXT = "its prior draws a context beside u, which would have to be held, too"


def draws(
    evaluation: Evaluation,
    n: int,
    noise: Noise,
    hold: Hold | None = None,
    prior: PriorLearner | None = None,
    as_trained: bool = False,
) -> Tensor:
    """u `(n, D)` of the prior in question, or of another one; the coordinates that are held are those of `hold`.

    Chains are as long as `evaluate.chain_steps` says, or `as_trained`.
    """
    prior, parts = prior or evaluation.prior, []
    steps = None if as_trained else evaluation.settings.chain_steps
    with evaluating(evaluation.backbone, evaluation.prior):
        for start in range(0, n, evaluation.settings.rows):
            rows = min(evaluation.settings.rows, n - start)
            given = None if hold is None else Hold(hold.u[start : start + rows], hold.held)
            parts.append(prior.sample(evaluation.generator, rows, noise.at(start), steps=steps, hold=given).u)
    return torch.cat(parts)


def images_of(evaluation: Evaluation, u: Tensor) -> Tensor:
    """E[x | T(u)] in [−1, 1], `(n, C, H, W)`, of u `(n, D)`."""
    generator, parts = evaluation.generator, []
    with evaluating(evaluation.backbone, evaluation.prior):
        for few in u.split(evaluation.settings.rows):
            mean: Tensor = generator.likelihood(generator.latents(few)).mean
            parts.append(mean)
    return torch.cat(parts)
