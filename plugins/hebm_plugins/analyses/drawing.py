"""Helpers of analyses for contexts and tilts of draws."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.scores import Scorer, scan
from hebm.interfaces import Batch, Draw
from hebm.noise import Noise
from hebm.tilts import Tilt
from hebm.trained import TrainedModel


def repeated(context: Tensor | None, times: int) -> Tensor | None:
    """Repeat each row `times` times, with copies of a row adjacent to each other."""
    return None if context is None else context.repeat_interleave(times, 0)


def contexts_of(evaluation: Evaluation, images: Images, scorer: Scorer, name: str = "inside") -> Tensor | None:
    """Infer contexts `(n, *context)` of images with the noise of `scan` under this name. None without contexts."""
    shape = evaluation.model.backbone.layout.context
    if shape is None:
        return None

    def context(batch: Batch, noise: Noise) -> Tensor:
        latents = scorer.inferred(batch, noise.derive(0))
        return batch.x.new_zeros(len(batch.x), 0) if latents.context is None else latents.context.flatten(1)

    found = scan(evaluation, images, context, name).to(evaluation.model.device, evaluation.model.dtype)
    return torch.unflatten(found, 1, shape)


def tilts(model: TrainedModel, tilt: Tilt, draw: Draw) -> Tensor:
    """Return the log tilts of n draws, float64 `(n, E)` on the CPU."""
    return model.of_latents(draw, lambda latents: tilt.at(model.generator, latents)).double().cpu()
