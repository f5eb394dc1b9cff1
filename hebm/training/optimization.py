"""Settings of parameter updates: optimiser, learning-rate schedule, clipping and weight averaging."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.training.schedules import DECAYS, EPOCH_COSINE, decayed, epoch_cosine, epochs_left, warm_up

PATIENCE = (
    "end the phase when the mean loss over this many steps is not below the mean over the same number of steps before; "
    "0 = off. With `data.validation`, a phase on a fixed backbone compares its validation loss, if it has one, with "
    "the value this many steps before"
)
"""The `doc` of every option `patience`."""
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
}
FUSED = ("adam", "adamw")
"""The optimisers of which torch has a fused form."""


@recipe
class Optimization:
    """Sets how one group of parameters is trained."""

    optimizer: str = option(
        "adam", doc="update rule (adam: weight decay is L2 in the gradient)", choices=(*OPTIMIZERS,)
    )
    learning_rate: float = option(1e-3, doc="full learning rate, which the schedule multiplies", above=0)
    betas: tuple[float, float] = option((0.9, 0.999), doc="decay rates of the first and second moment", low=0, high=1)
    epsilon: float = option(1e-8, doc="constant added to the denominator of the update", above=0)
    weight_decay: float = option(0.0, doc="weight decay", low=0)
    schedule: str = option(
        "constant",
        doc="decay of the rate after warm-up; epoch-cosine is NVAE's: constant within an epoch, warm-up from 0",
        choices=(*DECAYS, EPOCH_COSINE),
    )
    epoch: int = option(1, doc="steps per epoch, used by epoch-cosine only", low=1, unit="steps")
    decay_from: float = option(0.0, doc="fraction of the steps after which the decay starts", low=0, high=1)
    final: float = option(1e-2, doc="factor of the learning rate at the end of the decay", above=0, high=1)
    warmup: int = option(0, doc="steps over which the rate rises from 0", low=0)
    warmup_from_zero: bool = option(
        False, doc="start the warm-up at rate 0: step / warmup instead of (step + 1) / warmup (VDVAE)"
    )
    clip: float = option(0.0, doc="largest norm of the gradient; 0 = off", low=0)
    skip_above: float = option(
        0.0, doc="leave out a step whose gradient has this norm or a larger one before clipping; 0 = off", low=0
    )
    ema: float = option(
        0.0, doc="decay of the averaged weights, which replace the weights after training; 0 = off", low=0, high=1
    )
    ema_warmup: bool = option(
        True, doc="average the first steps with a smaller decay, (1 + n) / (10 + n) after n steps; false: always ema"
    )

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` if `warmup` or `decay_from` does not fit the schedule epoch-cosine."""
        if self.schedule != EPOCH_COSINE:
            return
        if self.warmup % self.epoch or self.warmup == 1:
            raise ConfigError(
                f"schedule {EPOCH_COSINE!r}: a warm-up of {self.warmup} steps does not fit epochs of {self.epoch}; "
                "warmup must be a multiple of epoch, and not 1 (the rate would stay at 0): "
                f"set it to 0 or {max(self.epoch, 2)}"
            )
        if self.decay_from:
            raise ConfigError(f"schedule {EPOCH_COSINE!r} starts right after warmup: leave out decay_from")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimiser at the full learning rate, in its fastest form: fused on CPUs, otherwise foreach."""
        trained = list(parameters)
        fused = self.optimizer in FUSED and all(parameter.device.type == "cpu" for parameter in trained)
        optimizer: torch.optim.Optimizer = OPTIMIZERS[self.optimizer](
            trained,
            lr=self.learning_rate,
            betas=self.betas,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            **{"fused" if fused else "foreach": True},
        )
        return optimizer

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate at a step, 0 ≤ step < total."""
        if self.schedule == EPOCH_COSINE:
            self.check_steps(total)
            return self.learning_rate * epoch_cosine(step, total, self.epoch, self.warmup, self.final)
        warm = warm_up(step, self.warmup, self.warmup_from_zero)
        return self.learning_rate * warm * decayed(self.schedule, step, total, self.decay_from, self.final)

    def check_steps(self, total: int) -> None:
        """Raise `ConfigError` if `total` steps leave no epoch after the warm-up."""
        if self.schedule == EPOCH_COSINE and epochs_left(total, self.epoch, self.warmup) < 1:
            raise ConfigError(
                f"schedule {EPOCH_COSINE!r}: {total} steps leave none after a warm-up of {self.warmup}; "
                f"use at least warmup + epoch = {self.warmup + self.epoch} steps, or a shorter warm-up"
            )


@recipe
class PhaseOptimization(Optimization):
    """Sets how one phase trains its parameters, and for how many steps."""

    steps: int = option(2000, doc="largest number of training steps", low=0)
    patience: int = option(0, doc=PATIENCE, low=0)

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` if the steps leave no epoch of epoch-cosine after the warm-up."""
        super().__attrs_post_init__()
        if self.steps:
            self.check_steps(self.steps)


def averaged(module: nn.Module, decay: float, warmup: bool = True) -> AveragedModel:
    """Return a copy of a module that averages parameters exponentially and copies buffers at each update.

    After n updates, θ̄ ← d θ̄ + (1 − d) θ with d = min(decay, (1 + n) / (10 + n)), so early averages follow θ closely.
    Without `warmup`, d = decay, and the average starts from the initial θ.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], n: Tensor | int) -> None:
        d = min(decay, (1 + float(n)) / (10 + float(n))) if warmup else decay
        torch._foreach_mul_(list(averages), d)
        torch._foreach_add_(list(averages), list(current), alpha=1 - d)

    average = AveragedModel(module, multi_avg_fn=update)
    if not warmup:
        average.n_averaged += 1  # the first update of torch would replace the initial weights
    return average
