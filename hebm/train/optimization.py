"""How parameters are updated: optimiser, schedule as a function of the step, clipping, averaging."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hebm.config.recipe import option, recipe

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
}


@recipe
class Optimization:
    """How one group of parameters is trained."""

    optimizer: str = option(
        "adam", doc="update rule (adam: weight decay is L2 in the gradient)", choices=(*OPTIMIZERS,)
    )
    learning_rate: float = option(1e-3, doc="before the schedule", above=0)
    betas: tuple[float, float] = option((0.9, 0.999), doc="decay of first and second moment", low=0, high=1)
    epsilon: float = option(1e-8, doc="added to the denominator", above=0)
    weight_decay: float = option(0.0, doc="weight decay", low=0)
    schedule: str = option(
        "constant", doc="of the learning rate after warm-up", choices=("constant", "linear", "cosine", "exponential")
    )
    decay_from: float = option(0.0, doc="fraction of the steps after which the schedule starts", low=0, high=1)
    final: float = option(1e-2, doc="factor of the learning rate that the schedule ends at", above=0, high=1)
    warmup: int = option(0, doc="steps over which the rate rises from 0", low=0)
    clip: float | None = option(None, doc="greatest norm of the gradient; none by default", above=0)
    ema: float = option(0.0, doc="decay of the averaged weights that replace the last ones; 0 = off", low=0, high=1)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser at its full learning rate."""
        optimizer: torch.optim.Optimizer = OPTIMIZERS[self.optimizer](
            parameters, lr=self.learning_rate, betas=self.betas, eps=self.epsilon, weight_decay=self.weight_decay
        )
        return optimizer

    def rate(self, step: int, total: int) -> float:
        """The learning rate of step 0 ≤ step < total."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        progress = step / max(total, 1)
        p = max(0.0, progress - self.decay_from) / (1 - self.decay_from) if self.decay_from < 1 else 0.0
        factors: dict[str, float] = {
            "constant": 1.0,
            "linear": 1 - (1 - self.final) * p,
            "cosine": self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * p)),
            "exponential": self.final**p,
        }
        return self.learning_rate * warm * factors[self.schedule]


@recipe
class PhaseOptimization(Optimization):
    """How one phase trains its parameters, and for how long."""

    steps: int = option(2000, doc="training steps of the phase", low=0)


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """θ̄ ← d θ̄ + (1 − d) θ with d = min(decay, (1 + n) / (10 + n)) after n updates, so that early averages follow.

    Buffers are copied.
    """

    def update(average: Tensor, current: Tensor, n: Tensor | int) -> Tensor:
        d = min(decay, (1 + float(n)) / (10 + float(n)))
        return d * average + (1 - d) * current

    return AveragedModel(module, avg_fn=update)
