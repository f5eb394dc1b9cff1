"""What happens when a loss or a gradient is not finite: the step is left out and counted, never repaired."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch
from torch import Tensor, nn

from hebm.errors import NonFiniteError
from hebm.interfaces import Batch, Progress
from hebm.noise import Noise
from hebm.training.phases import Phase


@attrs.define
class Guard:
    """Counts steps that were left out.

    Arguments:
        limit: how many in a row stop the run.
        skipped: how many in all.
        in_a_row: how many since the last finite step.
    """

    limit: int
    skipped: int = 0
    in_a_row: int = 0

    def passed(self) -> None:
        """A finite step was taken."""
        self.in_a_row = 0

    def failed(self) -> bool:
        """A step is left out. True if that was the last one allowed."""
        self.skipped += 1
        self.in_a_row += 1
        return self.in_a_row >= self.limit


def nonfinite_report(
    phase: str, progress: Progress, terms: Mapping[str, float], offender: str, limit: int
) -> NonFiniteError:
    """The error that ends a run: step (the first being 1), terms, and what was not finite first."""
    figures = ", ".join(f"{name}={value:.4g}" for name, value in terms.items())
    return NonFiniteError(
        f"phase {phase!r}, step {progress.step + 1}: {limit} step(s) in a row had a loss or gradient that is not "
        f"finite ({figures}). First: {offender or 'the loss itself'}. The last good checkpoint is kept; lower the "
        "learning rate or the sampler's step size, or set a clip, and start the run again with --allow-changes"
    )


def first_offender(phase: Phase, batch: Batch, noise: Noise, progress: Progress) -> str:
    """The first parameter, module's output or gradient that is not finite on this batch, or ""."""
    for name, parameter in phase.named_parameters():
        if not parameter.isfinite().all():
            return f"parameter {name}"
    found: list[str] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: _note(found, name, out))
        for name, module in phase.named_modules()
        if name
    ]
    phase.zero_grad(set_to_none=True)  # clipping by a norm that is not finite has spoilt them all
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
    """The norm of the gradient before clipping; gradients are scaled down to `clip` in place, unless it is 0."""
    return torch.nn.utils.clip_grad_norm_(parameters, clip or float("inf"))
