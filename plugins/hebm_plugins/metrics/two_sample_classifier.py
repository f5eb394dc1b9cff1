"""Train a classifier on two sets of samples, and return its log ratio on samples that it has not seen.

    f(x) ≈ log q(x) − log p(x),        trained to minimise E_q[softplus(−f)] + E_p[softplus(f)]

The rows of both sets are divided in three. A quarter is held out: the result is f of these. An eighth is for
validation: it decides which weights are kept (the averaged ones after the epoch with the lowest loss on it), and by
which power a ≤ 1 the ratio is tempered, f ← a f (the one that certifies the most nats on it). The rest is trained on.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hebm.building import seeded
from hebm.contrasts import bce, certified_nats
from hebm.noise import Noise
from hebm.perturbations import Dropout, Shift, view
from hebm.training.optimization import averaged
from hebm_plugins.energies.layerwise import started
from hebm_plugins.extractors.classifier import ClassifierNet

FEWEST = 64
"""The least number of pairs that can be divided, with 16 of them held out."""
_HELD_OUT, _VALIDATION = 4, 8
_BATCH, _RATE, _WEIGHT_DECAY, _AVERAGE, _PATIENCE = 64, 2e-3, 0.05, 0.98, 4
_WIDTH, _DROPOUT, _AT_A_TIME = 128, 0.2, 512
_POWERS = (1.0, 0.8, 0.6, 0.4, 0.2)


class Division(NamedTuple):
    """Row numbers of three parts, none of which is in two."""

    training: Tensor
    validation: Tensor
    held_out: Tensor


class LogRatios(NamedTuple):
    """f on held-out samples of q, `(N,)`, and of p, `(N,)`."""

    positive: Tensor
    negative: Tensor

    def tempered(self, power: float) -> LogRatios:
        """Return the log ratios multiplied by a power."""
        return LogRatios(power * self.positive, power * self.negative)


def divide(n: int, noise: Noise) -> Division:
    """Divide n rows at random."""
    held_out, validation = sizes(n)
    order = noise.derive("division").uniform(n).argsort().cpu()
    return Division(order[held_out + validation :], order[held_out:][:validation], order[:held_out])


def sizes(n: int) -> tuple[int, int]:
    """Return how many of n rows are held out, and how many are for validation."""
    return n // _HELD_OUT, n // _VALIDATION


class ImageNet(nn.Module):
    """The net of the extractor `classifier` with one logit; in training, images are shifted by up to a pixel each way.

    Arguments:
        shape: (C, H, W) of the images.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = shape
        self.shift, self.dropout = Shift(1), Dropout(_DROPOUT)
        self.net = ClassifierNet((channels, height, width), 1)
        started(self.net.head, True)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map uint8 `(B, C, H, W)` to f `(B, 1)`."""
        features, _ = self.net(self.shift(pixels))
        f: Tensor = self.net.head(self.dropout(features))
        return f


def latents_net(dim: int) -> nn.Sequential:
    """Return an MLP `(B, D)` → f `(B, 1)` with two hidden layers."""
    out = nn.Linear(_WIDTH, 1)
    started(out, True)
    hidden = [nn.Linear(dim, _WIDTH), nn.SiLU(), Dropout(_DROPOUT), nn.Linear(_WIDTH, _WIDTH), nn.SiLU()]
    return nn.Sequential(*hidden, Dropout(_DROPOUT), out)


def new_net(shape: tuple[int, ...], seed: int) -> nn.Module:
    """Return an untrained net, with f = 0, for images (C, H, W) or latents (D,)."""
    with seeded(seed, "two-sample"):
        return latents_net(*shape) if len(shape) == 1 else ImageNet(shape)


def tell_apart(positive: Tensor, negative: Tensor, epochs: int, noise: Noise) -> LogRatios:
    """Train a new classifier and return its log ratio on the held-out rows.

    Arguments:
        positive: samples of q on the CPU, uint8 images `(N, C, H, W)` or latents `(N, D)`.
        negative: as many of p.
        epochs: the largest number of passes over the training part.
        noise: of the division, the order and the perturbations; it has the device to train on.
    """
    parts = divide(len(positive), noise)
    if positive.dim() == 2:
        positive, negative = _standardised(positive, negative, parts.training)
    net = new_net(tuple(positive.shape[1:]), noise.seed).to(noise.device).train()
    trained = _train(net, positive, negative, parts, epochs, noise)
    validation, held_out = (
        _log_ratios(trained, positive, negative, rows, noise.device) for rows in (parts.validation, parts.held_out)
    )
    best = max(_POWERS, key=lambda power: float(certified_nats(*validation.tempered(power))))
    return held_out.tempered(best)


def _standardised(positive: Tensor, negative: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents with mean 0 and deviation 1 over some rows of both sets."""
    known = torch.cat([positive[rows], negative[rows]])
    mean, deviation = known.mean(0), known.std(0).clamp_min(1e-6)
    return (positive - mean) / deviation, (negative - mean) / deviation


def _train(net: nn.Module, positive: Tensor, negative: Tensor, parts: Division, epochs: int, noise: Noise) -> nn.Module:
    """Return the averaged net after the epoch with the lowest loss on the validation part."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    average = averaged(net, _AVERAGE).eval()
    best, lowest, waited = average.module, math.inf, 0
    for epoch in range(epochs):
        drawn = noise.derive("epoch", epoch)
        orders = [parts.training[drawn.uniform(len(parts.training)).argsort().cpu()] for _ in range(2)]
        for step, (first, second) in enumerate(zip(*map(_batches, orders), strict=True)):
            _step(net, positive[first], negative[second], optimizer, drawn.derive(step))
            average.update_parameters(net)
        loss = float(bce(*_log_ratios(average.module, positive, negative, parts.validation, noise.device)))
        waited += 1
        if loss < lowest:
            best, lowest, waited = copy.deepcopy(average.module), loss, 0
        if waited == _PATIENCE:
            break
    return best


def _batches(order: Tensor) -> list[Tensor]:
    """Return rows in whole batches: of 64, or an eighth of them all if these are few."""
    rows = min(_BATCH, -(-len(order) // 8))
    return list(torch.split(order[: len(order) // rows * rows], rows))


def _step(net: nn.Module, positive: Tensor, negative: Tensor, optimizer: torch.optim.Optimizer, noise: Noise) -> None:
    samples = torch.cat([positive, negative]).to(noise.device)
    with torch.enable_grad():
        f = view(net, noise)(samples)
        loss = bce(f[: len(positive)], f[len(positive) :]).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
    optimizer.step()


@torch.no_grad()
def _log_ratios(net: nn.Module, positive: Tensor, negative: Tensor, rows: Tensor, device: torch.device) -> LogRatios:
    """Return f of some rows of both sets, float64 on the CPU."""
    parts = torch.split(rows, _AT_A_TIME)
    first, second = (
        torch.cat([net(samples[part].to(device)).squeeze(1).double().cpu() for part in parts])
        for samples in (positive, negative)
    )
    return LogRatios(first, second)
