"""Skip and count steps whose loss or gradient is not finite or too large. They are never repaired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
import torch
from torch import Tensor, nn

from hebm.errors import NonFiniteError
from hebm.interfaces import Batch, Progress
from hebm.noise import Noise
from hebm.training.phases import Phase

_GROWN = 1e3
_MANY = 100
"""Number of successive steps with large gradients after which a note says so."""


@attrs.define
class Guard:
    """Counts skipped steps.

    Arguments:
        limit: number of consecutive non-finite steps that ends the run.
        skipped: total number of skipped steps, non-finite ones and those with gradients above `skip_above`.
        in_a_row: number of non-finite steps since the last finite one.
        large_in_a_row: number of steps with gradients above `skip_above` since the last step that was taken, or since
            the run was resumed.
    """

    limit: int
    skipped: int = 0
    in_a_row: int = 0
    large_in_a_row: int = 0

    def passed(self) -> None:
        """Reset the counts of consecutive steps."""
        self.in_a_row = self.large_in_a_row = 0

    def too_large(self) -> bool:
        """Count a step that is skipped for its large gradient, and return whether a note is due."""
        self.skipped += 1
        self.in_a_row, self.large_in_a_row = 0, self.large_in_a_row + 1
        return self.large_in_a_row % _MANY == 0

    def failed(self) -> bool:
        """Count a skipped step, and return whether the run must end."""
        self.skipped += 1
        self.in_a_row += 1
        return self.in_a_row >= self.limit


@attrs.frozen
class Weights:
    """The size of a group's weights, for the error that ends a run.

    Arguments:
        name: the group's name, "backbone" or "prior".
        first: the largest absolute value when the phase started.
        largest: the largest absolute value now.
        rate: the learning rate.
    """

    name: str
    first: float
    largest: float
    rate: float

    @property
    def exploded(self) -> bool:
        """Whether the weights are NaN or have grown by a factor of more than 1000."""
        return not self.largest <= _GROWN * max(1.0, self.first)  # NaN fails every comparison


def advice(weights: Sequence[Weights], chains: float) -> str:
    """Return advice for losses that are not finite: lower the learning rate, or the sampler's step size.

    Arguments:
        weights: the sizes of the weights of every group that the phase trains.
        chains: number of chains of the run that ended with values that are not finite.
    """
    for group in weights:
        if group.exploded:
            grown = f"the weights of the {group.name} have grown from {group.first:.3g} to {group.largest:.3g}"
            return f"{grown}: lower train.{group.name}.learning_rate (now {group.rate:.3g})"
    if chains:
        return (
            f"{chains:,.0f} chains ended with values that are not finite while the weights stayed small: lower the "
            "sampler's step_size"
        )
    return "lower the learning rate or the sampler's step size, or set a clip"


def largest_weight(parameters: Iterable[Tensor]) -> float:
    """Return the largest absolute value of all parameters, or 0 without parameters."""
    return max((float(parameter.detach().abs().max()) for parameter in parameters if parameter.numel()), default=0.0)


def nonfinite_report(
    phase: str, progress: Progress, terms: Mapping[str, float], offender: str, limit: int, fix: str
) -> NonFiniteError:
    """Return the error that ends a run.

    Arguments:
        phase: name of the phase.
        progress: progress at the step; the message counts steps from 1.
        terms: the step's metrics.
        offender: the result of `first_offender`.
        limit: number of consecutive skipped steps.
        fix: the result of `advice`.
    """
    listed = ", ".join(f"{name}={value:.4g}" for name, value in terms.items())
    return NonFiniteError(
        f"phase {phase!r}, step {progress.step + 1}: {limit} step(s) in a row had a loss or gradient that is not "
        f"finite ({listed}). First: {offender or 'the loss itself'}. The last good checkpoint is kept; {fix}, then "
        "start the run again with --allow-changes"
    )


def large_gradients_note(phase: str, guard: Guard, norms: Mapping[str, Tensor]) -> str:
    """Return a note for a long row of steps that were skipped for their large gradients.

    Arguments:
        phase: name of the phase.
        guard: the counts.
        norms: the norms of the last step's gradients, by name.
    """
    listed = ", ".join(f"{name}={float(norm):.4g}" for name, norm in norms.items())
    return (
        f"phase {phase!r}: the last {guard.large_in_a_row} steps had gradients above skip_above and were left out "
        f"({listed}), so nothing is learned; raise skip_above, or lower the learning rate"
    )


def first_offender(phase: Phase, batch: Batch, noise: Noise, progress: Progress) -> str:
    """Return the name of the first non-finite parameter, module output or gradient on a batch; "" if all are finite."""
    for name, parameter in phase.named_parameters():
        if not parameter.isfinite().all():
            return f"parameter {name}"
    found: list[str] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: _note(found, name, out))
        for name, module in phase.named_modules()
        if name
    ]
    phase.zero_grad(set_to_none=True)  # clipping by a non-finite norm has made all gradients non-finite
    try:
        phase(batch, noise, progress).total.backward()
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return f"output of module {found[0]}"
    bad = [n for n, p in phase.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return f"gradient of {bad[0]}" if bad else ""


def _note(found: list[str], name: str, output: object) -> None:
    if isinstance(output, Tensor) and not output.isfinite().all():
        found.append(name)


def gradient_norm(parameters: list[nn.Parameter], clip: float) -> Tensor:
    """Clip gradients in place to the norm `clip` (0 = no clipping), and return their norm before clipping."""
    return torch.nn.utils.clip_grad_norm_(parameters, clip or float("inf"))
