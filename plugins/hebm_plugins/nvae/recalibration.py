"""Measure batch statistics on generated images before an NVAE is sampled from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hebm.config.recipes import option, recipe
from hebm.interfaces import Backbone
from hebm.noise import Noise
from hebm_plugins.nvae.batch_norm import BatchNorm


@recipe
class Recalibration:
    """Measure the decoder's BatchNorm statistics on generated images after training.

    In training, the statistics follow decoded posterior draws. The published code of NVAE (arXiv 2007.03898) then
    measures them on 500 batches of prior draws. This also changes the decoder that likelihoods are measured with, so
    measure bits per dimension on a run without it. With `train.backbone_from`, the run that loads a backbone applies
    its own setting, and the original run keeps its statistics.

    Example:
        >>> Recalibration(passes=500).rows
        16
    """

    passes: int = option(0, doc="batches to generate after training; 0 for no recalibration", low=0)
    rows: int = option(16, doc="images per batch", low=1)
    temperature: float = option(1.0, doc="standard deviation of u; use the temperature of later sampling", above=0)


@torch.no_grad()
def recalibrate(backbone: Backbone, noise: Noise, settings: Recalibration) -> None:
    """Generate `passes` batches from u ~ temperature · N(0, I) in training mode, then restore all modes.

    Each batch updates the running statistics of every BatchNorm layer between u and the image, with the layer's
    momentum. Nothing else changes. The result depends only on `noise`; all processes make the same passes.
    """
    with _measuring(backbone):
        for k in range(settings.passes):
            u = settings.temperature * noise.derive(k).normal(settings.rows, backbone.layout.dim)
            _ = backbone.likelihood(backbone.latents(u))


@contextmanager
def _measuring(backbone: Backbone) -> Iterator[None]:
    """Switch to training mode, with statistics of this process only."""
    modes = [(module, module.training) for module in backbone.modules()]
    norms = [module for module in backbone.modules() if isinstance(module, BatchNorm)]
    backbone.train()
    try:
        for norm in norms:
            norm.together = False
        yield
    finally:
        for norm in norms:
            norm.together = True
        for module, training in modes:
            module.training = training
