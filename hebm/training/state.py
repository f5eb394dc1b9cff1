"""The live state of parameter groups, and its conversion to and from the tensors of checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hebm.errors import CheckpointError
from hebm.training.guard import gradient_norm
from hebm.training.optimization import averaged
from hebm.training.phases import Group

Tensors = Mapping[str, Mapping[str, Tensor]]

_SHOWN = 5


class GroupState:
    """The live state of one parameter group during its phase.

    Arguments:
        name: "backbone" or "prior".
        group: the parameters.
        optimizer: their optimiser (a bare torch optimiser).
        average: the averaged copy of the owner, or None.
    """

    def __init__(
        self, name: str, group: Group, optimizer: torch.optim.Optimizer, average: AveragedModel | None
    ) -> None:
        self.name, self.group, self.optimizer, self.average = name, group, optimizer, average

    @classmethod
    def of(cls, name: str, group: Group) -> Self:
        """Build the optimiser and the averaged copy from a group's `optimization`."""
        optimizer = group.optimization.build(group.parameters().values())
        settings = group.optimization
        average = averaged(group.owner, settings.ema, settings.ema_warmup) if settings.ema else None
        return cls(name, group, optimizer, average)

    def set_rate(self, step: int, total: int) -> None:
        """Set the learning rate for a step, 0 ≤ step < total."""
        for settings in self.optimizer.param_groups:
            settings["lr"] = self.group.optimization.rate(step, total)

    def update(self) -> None:
        """Take one step of the optimiser, then update the average."""
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.group.owner)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the optimiser's moments and the averaged weights: tensors by name, by file name."""
        moments = {
            f"{name}/{key}": torch.as_tensor(value)
            for name, parameter in self.group.parameters().items()
            for key, value in self.optimizer.state[parameter].items()
        }
        files = {f"optimizer-{self.name}": moments}
        if self.average is not None:
            files[f"{self.name}-ema"] = dict(self.average.state_dict())
        return files

    def load(self, files: Tensors) -> None:
        """Load the result of `tensors`. Raises `CheckpointError` if a name is missing or surplus."""
        parameters = self.group.parameters()
        for key, value in tensors_of(files, f"optimizer-{self.name}").items():
            name, _, moment = key.rpartition("/")
            if name not in parameters:
                raise CheckpointError(
                    f"the checkpoint's optimiser has {name!r}, which {self.name} does not train. It was made by "
                    "another configuration: compare the run's config.toml with this one"
                )
            kept = value if moment == "step" else _like(parameters[name], value)
            self.optimizer.state[parameters[name]][moment] = kept
        if self.average is not None:
            load_module(self.average, tensors_of(files, f"{self.name}-ema"), f"{self.name}-ema")


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """Return a moment on the parameter's device and in its memory format."""
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def clip_gradients(groups: Sequence[GroupState], together: bool) -> dict[str, Tensor]:
    """Clip the gradients of each group, or of all groups together by the first one's `clip`.

    Returns the norms before clipping: "grad_norm_NAME" of each group, or "grad_norm_together".
    """
    parameters = {g.name: list(g.group.parameters().values()) for g in groups}
    if together and len(groups) > 1:
        whole = [p for group in parameters.values() for p in group]
        return {"grad_norm_together": gradient_norm(whole, groups[0].group.optimization.clip)}
    return {f"grad_norm_{g.name}": gradient_norm(parameters[g.name], g.group.optimization.clip) for g in groups}


def above_limit(groups: Sequence[GroupState], norms: Mapping[str, Tensor]) -> bool:
    """Return whether the step must be left out, since a norm before clipping is not below its group's `skip_above`.

    Arguments:
        groups: the groups of the phase.
        norms: the result of `clip_gradients`.
    """
    limits = [group.group.optimization.skip_above for group in groups]
    return any(limit and not float(norm) < limit for limit, norm in zip(limits, norms.values(), strict=False))


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict strictly. Raises `CheckpointError` that lists missing, surplus and differently shaped names."""
    own = module.state_dict()
    missing, surplus = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    misshaped = sorted(k for k in set(own) & set(tensors) if own[k].shape != tensors[k].shape)
    if missing or surplus or misshaped:
        raise CheckpointError(
            f"{what} of the checkpoint does not fit: missing {_some(missing)}; surplus {_some(surplus)}; other shape "
            f"{_some(misshaped)}. It was made by another configuration: compare the run's config.toml with this one"
        )
    module.load_state_dict(dict(tensors))


@contextmanager
def restored_requires_grad(module: nn.Module) -> Iterator[None]:
    """Restore `requires_grad` of all parameters after the context."""
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


def tensors_of(files: Tensors, name: str) -> Mapping[str, Tensor]:
    """Return the tensors of the file `NAME.safetensors`. Raises `CheckpointError` if the checkpoint lacks it."""
    if name not in files:
        raise CheckpointError(f"the checkpoint has no {name}.safetensors, only {_some(sorted(files))}; put it back")
    return files[name]


def averaged_weights(tensors: Tensors, name: str) -> dict[str, Tensor]:
    """Return the averaged weights of "backbone" or "prior" from a checkpoint; its last weights without an average."""
    average = tensors.get(f"{name}-ema")
    if average is None:
        return dict(tensors_of(tensors, name))
    prefix = "module."
    return {key.removeprefix(prefix): value for key, value in average.items() if key.startswith(prefix)}


def _some(names: list[str]) -> str:
    """List the first few names and the number of remaining ones."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else "none"
