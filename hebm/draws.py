"""The request for draws from a prior, and the draws that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.fixed import Fixed
from hebm.samplers import Info

Observer = Callable[[str, int, Any, Info], None]
"""Called as `observe(transition, step, state, info)` after each step of a chain.

`transition` is the name of the transition that runs the chain. `step` counts from 0 within the chain. `state[0]` is the
whole u `(n, D)`.
"""


@attrs.frozen(eq=False)
class Draw:
    """Samples from a prior.

    Arguments:
        u: `(n, D)`.
        context: the context that each sample was drawn in, `(n, *context)`, or None.
        diagnostics: one number per sample `(n,)` about its drawing, by name, such as an effective sample size.
    """

    u: Tensor
    context: Tensor | None = None
    diagnostics: Mapping[str, Tensor] = attrs.field(factory=dict)

    @classmethod
    def joined(cls, parts: Sequence[Draw]) -> Draw:
        """Return the draws of several batches as one."""
        contexts = [part.context for part in parts if part.context is not None]
        names = parts[0].diagnostics if parts else ()
        diagnostics = {name: torch.cat([part.diagnostics[name] for part in parts]) for name in names}
        return cls(torch.cat([part.u for part in parts]), torch.cat(contexts) if contexts else None, diagnostics)

    def moved(self, u: Tensor, diagnostics: Mapping[str, Tensor] | None = None) -> Draw:
        """Return the samples moved to another u, with added diagnostics."""
        return Draw(u, self.context, {**self.diagnostics, **(diagnostics or {})})

    def fixed_as(self, fixed: Fixed | None) -> Draw:
        """Return the samples with the fixed coordinates set to their given values."""
        return self if fixed is None else attrs.evolve(self, u=fixed.apply(self.u))

    def rows(self, few: slice) -> Draw:
        """Return the samples in the slice `few`."""
        context = None if self.context is None else self.context[few]
        return Draw(self.u[few], context, {name: values[few] for name, values in self.diagnostics.items()})


@attrs.frozen(eq=False)
class Request:
    """Settings of draws from a prior. The default changes nothing.

    Arguments:
        labels: the class of each sample `(n,)`, or its attributes `(n, A)`: 1, 0, or −1 for either. None draws from the
            marginal. A prior trained without labels ignores them.
        context: c, `(n, *context)`; None draws it from the root.
        steps: length of each chain, in place of `sampler.steps`; 0 returns the points where the chains start.
        after: name of the transition to stop after; None draws from the prior itself.
        fixed: coordinates of u that are given.
        observe: called after every step of every chain.
        start_proposals: P of every choice of a chain's start, in place of the prior's P; 1 starts at the root's draw.
    """

    labels: Tensor | None = None
    context: Tensor | None = None
    steps: int | None = None
    after: str | None = None
    fixed: Fixed | None = None
    observe: Observer | None = None
    start_proposals: int | None = None

    def rows(self, few: slice) -> Request:
        """Return the request for the samples in the slice `few`."""
        labels, context = (None if given is None else given[few] for given in (self.labels, self.context))
        fixed = None if self.fixed is None else self.fixed.rows(few)
        return attrs.evolve(self, labels=labels, context=context, fixed=fixed)

    def repeated(self, times: int) -> Request:
        """Return the request for `times` rows per sample."""
        labels, context = (
            None if given is None else given.repeat_interleave(times, 0) for given in (self.labels, self.context)
        )
        fixed = None if self.fixed is None else self.fixed.repeated(times)
        return attrs.evolve(self, labels=labels, context=context, fixed=fixed)
