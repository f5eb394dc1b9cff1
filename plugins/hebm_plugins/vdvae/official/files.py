"""Tell apart the files of a checkpoint of the published code: weights, averaged weights, optimiser and log."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from torch import Tensor

from hebm.errors import CheckpointError
from hebm.porting import ForeignFile
from hebm.published_weights import in_single_precision, unwrapped
from hebm_plugins.vdvae.official.moments import is_optimizer, step_of
from hebm_plugins.vdvae.official.training_log import TrainingLog, read_log

_STEP = re.compile(r"iter-(\d{1,9})(?!\d)")
_AVERAGES = re.compile(r"(^|[^a-z])ema([^a-z]|$)")
_KINDS = "iter-N-model-ema.th, iter-N-model.th, iter-N-opt.th and iter-N-log.jsonl"


@attrs.frozen(eq=False)
class Checkpoint:
    """The files of one checkpoint.

    Arguments:
        name: the name of the file with the weights.
        weights: the weights by published name without `module.`, float32, in the order of the file; with the versions
            of modules as `_metadata`, if the file has them.
        optimizer: the content of the optimiser's file, or None.
        log: the log, or None.
        step: number of training steps.
        notes: notes for users, one line each.
    """

    name: str
    weights: OrderedDict[str, Any]
    optimizer: Mapping[str, Any] | None
    log: TrainingLog | None
    step: int
    notes: tuple[str, ...]


def checkpoint_of(files: Sequence[ForeignFile]) -> Checkpoint:
    """Return the files of a checkpoint by their kinds. Averaged weights are used if there are both.

    Raises `CheckpointError` without weights, for two files of a kind, and for files of different steps.
    """
    logs = [file for file in files if isinstance(file.content, str)]
    optimizers = [file for file in files if is_optimizer(file.content)]
    others = [file for file in files if file not in (*logs, *optimizers)]
    weights, choosing = _chosen(others)
    optimizer, log = _only(optimizers, "the optimiser's state"), _only(logs, "a log")
    read = None if log is None else read_log(log.name, log.content)
    state, unwrapping = unwrapped(_state(weights))
    single, converting = in_single_precision(state)
    content = None if optimizer is None else optimizer.content
    step, counting = _step(files, content, read)
    notes = (*choosing, *unwrapping, *converting, *counting)
    return Checkpoint(weights.name, single, content, read, step, notes)


def _only(files: Sequence[ForeignFile], what: str) -> ForeignFile | None:
    if len(files) > 1:
        raise CheckpointError(f"{' and '.join(file.name for file in files)} both hold {what}; give one of them")
    return files[0] if files else None


def _chosen(files: Sequence[ForeignFile]) -> tuple[ForeignFile, list[str]]:
    """Return the file with the averaged weights, or else the one with the last step's, and a note."""
    averages = [file for file in files if _AVERAGES.search(file.name.lower())]
    last = [file for file in files if file not in averages]
    average, other = _only(averages, "averaged weights"), _only(last, "the weights of the last step")
    if average is not None:
        left_out = [] if other is None else [f"{average.name} is used, the averaged weights (EMA); {other.name} is not"]
        return average, left_out
    if other is None:
        raise CheckpointError(f"no file with weights was given; the files of a checkpoint are {_KINDS}")
    note = "its name does not say that it holds the averaged weights (EMA), which give the published numbers"
    return other, [f"{other.name}: {note}; the published code names their file …-model-ema.th"]


def _state(file: ForeignFile) -> Mapping[Any, Any]:
    content = file.content
    if isinstance(content, dict) and any(isinstance(value, Tensor) for value in content.values()):
        return content
    what = f"a dict of {', '.join(map(str, list(content)[:5])) or 'nothing'}" if isinstance(content, dict) else None
    raise CheckpointError(
        f"{file.name} is not a VDVAE checkpoint: it holds {what or f'a {type(content).__name__}'}, not a state dict; "
        f"the files of a checkpoint are {_KINDS}"
    )


def _step(
    files: Sequence[ForeignFile], optimizer: Mapping[str, Any] | None, log: TrainingLog | None
) -> tuple[int, list[str]]:
    """Return the step in the files' names, or else that of the optimiser or the log, or else 0; and a note."""
    named = {int(found[1]): file.name for file in files if (found := _STEP.search(file.name))}
    if len(named) > 1:
        raise CheckpointError(f"the files are of different steps: {', '.join(named.values())}; give those of one step")
    if named:
        return next(iter(named)), []
    updates = None if optimizer is None else step_of(optimizer)
    if updates is not None:
        return updates, [f"the step is {updates:,}, the number of the optimiser's updates: no file is named iter-N-…"]
    if log is not None and log.step is not None and 0 <= log.step < 2**31:
        return log.step, [f"the step is {log.step:,}, the last one of the log: no file is named iter-N-…"]
    return 0, ["the number of training steps is unknown, and set to 0: no file is named iter-N-…"]
