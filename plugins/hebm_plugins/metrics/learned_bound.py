"""The bound of a learned prior, ELBO + E_q[f] − log Z, as measurements."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property

import attrs
import torch
from torch import Tensor

from hebm import registry
from hebm.evaluation.likelihood import LogTilt
from hebm.evaluation.metric import SHARE, Measurement, Scalar
from hebm.evaluation.partition import Annealing, LogZ, learned_tilt, log_z_of, unmeasurable
from hebm.evaluation.shares import Processes
from hebm.trained import TrainedModel

TITLE = "ELBO of the learned prior"


@attrs.frozen(eq=False, slots=False)
class LearnedBound:
    """The part of the bound that a learned prior adds.

    Arguments:
        model: the model with the prior.
        annealing: settings for the estimate of log Z.
        processes: all processes use the estimates of the first one.
    """

    model: TrainedModel
    annealing: Annealing
    processes: Processes

    @cached_property
    def reason(self) -> str:
        """Return the reason why there is no such bound, or ""."""
        if self.model.request.after is not None:
            return "measured for the prior itself alone: leave out evaluate.after"
        return unmeasurable(self.model)

    @cached_property
    def tilt(self) -> LogTilt | None:
        """Return f(T(u)), or None if there is a `reason`."""
        return None if self.reason else learned_tilt(self.model)

    @cached_property
    def log_z(self) -> LogZ:
        """Return log Z, the same on every process."""
        found = log_z_of(self.model, self.annealing)
        estimates = torch.tensor(found.estimates, dtype=torch.float64, device=self.model.device)
        return attrs.evolve(found, estimates=tuple(self.processes.from_first(estimates).tolist()))

    def conditions(self) -> dict[str, Scalar]:
        """Return the conditions under which bounds of learned priors are comparable."""
        if self.log_z.known:
            return {"prior": "the learned prior", "log Z": "known"}
        how = self.annealing
        sampler = f"{registry.name_of(how.sampler)}, {how.sampler.steps} steps"
        return {
            "prior": "the learned prior",
            "log Z": f"SMC, {how.particles} particles, {how.repeats} runs, share {how.share}, {sampler}",
        }

    def measurements(self, bounds: Iterable[Measurement], tilt: Tensor, dimension: int) -> list[Measurement]:
        """Return bounds whose error includes that of log Z, the gain over the root, and log Z.

        Arguments:
            bounds: the bound in nats, and in bits per dimension if it exists, without the error of log Z.
            tilt: E_q[f] of each image, `(N,)`.
            dimension: number of values of an image.
        """
        nats, *in_bits = bounds
        z = self.log_z
        note = nats.note if z.known else "; ".join(filter(None, (nats.note, self._note())))
        nats = attrs.evolve(nats, error=_both(nats.error, z.error), note=note)
        in_bits = [attrs.evolve(bits, error=_both(bits.error, z.error / (dimension * math.log(2)))) for bits in in_bits]
        gain = attrs.evolve(
            nats,
            name="elbo-gain",
            value=float(tilt.mean()) - z.value,
            title="ELBO gained by the learned prior",
            error=_both(_error(tilt), z.error),
            note="" if z.known else "as the bound itself too high on average",
        )
        log_z = Measurement(
            "log-z", z.value, "log Z of the learned prior", z.error, "nats", conditions=self.conditions(), detail=True
        )
        if z.known:
            return [nats, *in_bits, gain, log_z]
        share = attrs.evolve(
            log_z, name="log-z.ess", title="lowest ESS / particles", value=z.share, error=None, unit=SHARE
        )
        accepted = attrs.evolve(share, name="log-z.acceptance", title="lowest acceptance", value=z.acceptance)
        return [nats, *in_bits, gain, log_z, share, *([accepted] if accepted.found else [])]

    def _note(self) -> str:
        z = self.log_z
        careful = f"subtract {2 * z.error:.2g} more (two standard errors) for a careful number"
        return (
            f"{z} by SMC ({len(z.estimates)} runs, {len(z.powers)} powers): too low on average, by about "
            f"{-z.bias:.2g}, so that the bound is too high on average; {careful}"
        )


def _error(values: Tensor) -> float | None:
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None


def _both(error: float | None, other: float) -> float | None:
    return None if error is None else math.hypot(error, other)
