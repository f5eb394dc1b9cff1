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
    """Measure the decoder's BatchNorm statistics on generated images after training (the published code: 500 batches).

    In training they follow decoded posterior draws; the published code then measures them on draws from the prior. That
    changes the decoder that likelihoods are measured with too: measure bits/dim on the run without it. A run whose
    backbone another one takes over (`train.backbone_from`) keeps its own statistics; the taking run measures them
    by its own setting.
    """

    passes: int = option(0, doc="batches generated for it after training; 0 = off", low=0)
    rows: int = option(16, doc="images per batch", low=1)
    temperature: float = option(1.0, doc="standard deviation of u; use the temperature of later sampling", above=0)


@torch.no_grad()
def recalibrate(backbone: Backbone, noise: Noise, settings: Recalibration) -> None:
    """Generate `passes` batches from u ~ temperature · N(0, I) in training mode; all modes are then as before.

    Running statistics of every BatchNorm layer on the way from u to the image move by its momentum with each batch;
    nothing else changes. Deterministic given `noise`; with several processes each makes the same passes.
    """
    with _measuring(backbone):
        for k in range(settings.passes):
            u = settings.temperature * noise.derive(k).normal(settings.rows, backbone.layout.dim)
            _ = backbone.likelihood(backbone.latents(u))


@contextmanager
def _measuring(backbone: Backbone) -> Iterator[None]:
    """Switch to training mode; each process measures by itself."""
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
