"""The top-down path: a deterministic state s that each latent layer reads and updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hebm.normals import Normal
from hebm_plugins.dvp.blocks import DecoderBlock, resized
from hebm_plugins.precision import full_precision


class PriorOutput(NamedTuple):
    """The outputs of a layer's prior net.

    Arguments:
        normal: p(z_l | s, c).
        residual: the term that it adds to the state, `(B, c, h, w)`.
    """

    normal: Normal
    residual: Tensor


class LayerSize(NamedTuple):
    """The sizes of one latent layer.

    Arguments:
        size: height and width.
        channels: channels of the state.
        width: channels of z.
        hidden: hidden channels of every block.
        seen: channels of the context image, 0 for none.
        outputs: channels of the state for the next layer.
        next_size: the resolution of that state.
    """

    size: tuple[int, int]
    channels: int
    width: int
    hidden: int
    seen: int
    outputs: int
    next_size: tuple[int, int]


class LadderLayer(nn.Module):
    """p(z|s, c) as a net of [s, c]; q(z|s, x) as a net of (e + s)/√2; s ← res(s + hres + zup(z)).

    The initialisation is the published one: the last layers of prior and posterior nets start at 0, next to their
    skips; zup and the last layers of the blocks of res start √(1/L) times smaller.

    Arguments:
        size: its sizes.
        layers: L.
        blocks: number of blocks in res.
        bounds: bounds of the log variances of prior and posterior.
        depthwise: use blocks with a depthwise convolution.
        used: whether another module reads the new state. If not, res is left out; zup is kept without use, since the
            published model has its parameters.
    """

    def __init__(
        self, size: LayerSize, layers: int, blocks: int, bounds: tuple[float, float], depthwise: bool, used: bool
    ) -> None:
        super().__init__()
        self.size, self.bounds, self.used = size, bounds, used
        c, w, h = size.channels, size.width, size.hidden
        self.prior = DecoderBlock(c + size.seen, 2 * w + c, h, depthwise)
        self.posterior = DecoderBlock(c, 2 * w, h, depthwise)
        self.zup = nn.Conv2d(w, c, 1)
        outputs = [c] * (blocks - 1) + [size.outputs] if used else []
        res = [DecoderBlock(c, out, h, depthwise) for out in outputs]
        self.res = nn.Sequential(*res)
        self._initialise(layers, res)

    def _initialise(self, layers: int, res: Sequence[DecoderBlock]) -> None:
        for net in (self.prior, self.posterior):
            nn.init.zeros_(net.last.weight)
            if net.last.bias is not None:
                nn.init.zeros_(net.last.bias)
        with torch.no_grad():
            for conv in (self.zup, *(block.last for block in res)):
                conv.weight.mul_(math.sqrt(1 / layers))
        if not self.used:
            self.zup.requires_grad_(False)

    def prior_of(self, s: Tensor, seen: Tensor | None) -> PriorOutput:
        """Return the prior net's outputs for state s `(B, c, h, w)` and the context image at its resolution."""
        w = self.size.width
        raw = full_precision(self.prior(s if seen is None else torch.cat([s, seen], dim=1)))
        mean, log_var, residual = torch.split(raw, [w, w, self.size.channels], dim=1)
        return PriorOutput(self._normal(mean, log_var), residual)

    def posterior_of(self, s: Tensor, e: Tensor) -> Normal:
        """Return q(z|s, x) from the state and the encoder's feature, both `(B, c, h, w)`."""
        mean, log_var = full_precision(self.posterior((e + s) / math.sqrt(2))).chunk(2, dim=1)
        return self._normal(mean, log_var)

    def _normal(self, mean: Tensor, log_var: Tensor) -> Normal:
        return Normal(mean, (0.5 * log_var.clamp(*self.bounds)).exp())

    def advanced(self, s: Tensor, residual: Tensor, z: Tensor) -> Tensor:
        """Return the state below, at the next layer's resolution."""
        return resized(self.res(s + residual + self.zup(z)), self.size.next_size)
