"""Extend a finished run: decide whether a run of N steps, continued to M, equals the run of M steps bit for bit.

It does, from a checkpoint at step k of its phase, if nothing up to step k depended on the number of steps:

    the learning rates      rate(i, N) = rate(i, M) for all i < k
    the loss                never read `Progress.total` (a KL warm-up over a share of the steps reads it)
    the end of the phase    the checkpoint was saved before `Phase.finish`, or `finish` does nothing

The earlier phases must also be unchanged, because later ones were trained on their results.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from hebm.config.recipes import fields_of
from hebm.errors import CheckpointError, ConfigError
from hebm.store.checkpoints import Checkpoint, list_checkpoints, load
from hebm.store.durable import reporting, sync_folder
from hebm.store.run_folder import RunFolder
from hebm.training.optimization import PhaseOptimization
from hebm.training.phases import Phase, SchemeRecipe
from hebm.training.saved_state import saved_state

LEFT = "before-extension-"
"""Prefix of the checkpoints that were saved after the one from which an extended run continues."""


@attrs.frozen(eq=False)
class Extension:
    """A run with another number of steps.

    Arguments:
        scheme: the scheme of the run, as it was trained.
        before: the phases of the run.
        after: the same phases with the requested numbers of steps.
    """

    scheme: SchemeRecipe
    before: Sequence[Phase]
    after: Sequence[Phase]

    def obstacle(self, checkpoint: Checkpoint) -> str | None:
        """Return why a longer run would not have reached this checkpoint, with the key; None if it would have."""
        for old, new in zip(self.before, self.after, strict=True):
            if new.steps < old.steps:
                return f"{self._key(old, 'steps')}: {new.steps} steps are fewer than {old.steps}"
            if old.name != checkpoint.phase:
                if old.steps != new.steps:
                    return f"{self._key(old, 'steps')}: phase {old.name!r} is over, and later phases depend on it"
                continue
            return None if old.steps == new.steps else self._within(old, new, checkpoint)
        raise CheckpointError(f"the checkpoint is from phase {checkpoint.phase!r}, which this run does not have")

    def _within(self, old: Phase, new: Phase, checkpoint: Checkpoint) -> str | None:
        steps, state = f"{self._key(old, 'steps')}: phase {old.name!r}", saved_state(checkpoint)
        if state.plateau.ended:
            return f"{self._key(old, 'patience')}: it ended phase {old.name!r} at step {checkpoint.step}"
        if state.total_used:
            return f"{steps}: its loss depends on the number of steps, for example by a KL warm-up over a share of them"
        if state.finished and old.finishes:
            return f"{steps}: its weights were finalized when it ended"
        return self._rates(old, new, checkpoint.step)

    def _rates(self, old: Phase, new: Phase, trained: int) -> str | None:
        for group in old.groups.values():
            rate = group.optimization.rate
            if differing := [i for i in range(trained) if rate(i, old.steps) != rate(i, new.steps)]:
                key = f"{self._home(group.optimization)}.schedule"
                what = f"{group.optimization.schedule!r} depends on the number of steps from step {differing[0]} on"
                return f"{key}: {what}, and {trained} steps were trained"
        return None

    def lengthens(self, name: str) -> bool:
        """Return whether the extension adds steps to this phase."""
        return any(new.steps > old.steps for old, new in zip(self.before, self.after, strict=True) if old.name == name)

    def _key(self, phase: Phase, name: str) -> str:
        """Return the key of a phase's steps or patience."""
        homes = [self._home(group.optimization) for group in phase.groups.values()]
        own = [f"{home}.{name}" for home in homes if f"{home}.steps" in step_keys(self.scheme)]
        return own[0] if own else f"train.{name}"

    def _home(self, optimization: Any) -> str:
        names = [field.name for field in fields_of(type(self.scheme))]
        return next((f"train.{name}" for name in names if getattr(self.scheme, name) is optimization), "train")


def step_keys(scheme: SchemeRecipe) -> tuple[str, ...]:
    """Return the keys that set the numbers of steps of a scheme's phases."""
    names = [field.name for field in fields_of(type(scheme))]
    nested = [f"train.{name}.steps" for name in names if isinstance(getattr(scheme, name), PhaseOptimization)]
    return (*nested, *(f"train.{name}" for name in names if name == "steps"))


def go_back(folder: RunFolder, run_id: str, extension: Extension) -> Checkpoint:
    """Find the last checkpoint from which a longer run can continue, and set later ones aside, the newest first.

    Searches only the phase that training has reached. The caller must hold the run's lock.

    Returns the checkpoint. Raises `ConfigError` if none fits, with the reason why the newest one does not.
    """
    with reporting(f"read {folder.checkpoints}"):
        paths = list_checkpoints(folder.checkpoints)[::-1]
    reached: str | None = None
    reason = "this run has no checkpoint yet; start it without --extend"
    for i, path in enumerate(paths):
        try:
            checkpoint = load(path, run_id)
        except CheckpointError as error:
            reason = reason if reached else str(error)
            continue
        if reached not in (None, checkpoint.phase):
            break
        obstacle = extension.obstacle(checkpoint)
        if obstacle is None:
            with reporting(f"set checkpoints in {folder.checkpoints} aside"):
                _set_aside(paths[:i])
            return checkpoint
        reached, reason = checkpoint.phase, reason if reached else obstacle
        if saved_state(checkpoint).plateau.ended:  # training from an earlier checkpoint would end here again
            break
    raise ConfigError(f"--extend: {reason}\nto train another number of steps, give the run another name")


def _set_aside(paths: Sequence[Path]) -> None:
    for path in paths:
        os.rename(path, _free(path))
        sync_folder(path.parent)


def _free(path: Path) -> Path:
    free, count = path.with_name(LEFT + path.name), 1
    while os.path.lexists(free):
        free = path.with_name(f"{LEFT}{path.name}.{count}")
        count += 1
    return free
