"""A run's tensors by name: weights, averages and optimiser moments, to and from checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from hebm.errors import CheckpointError
from hebm.training.phases import Group

Tensors = Mapping[str, Mapping[str, Tensor]]

_SHOWN = 5


class GroupState:
    """The live state of one parameter group during its phase.

    Arguments:
        name: "backbone" or "prior".
        group: what is trained.
        optimizer: its optimiser (a bare torch one).
        average: the averaged copy of the owner, or None.
    """

    def __init__(
        self, name: str, group: Group, optimizer: torch.optim.Optimizer, average: AveragedModel | None
    ) -> None:
        self.name, self.group, self.optimizer, self.average = name, group, optimizer, average

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Moments by parameter name, and the averaged weights."""
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
        """Put them back. Raises `CheckpointError` if a name is missing or surplus."""
        parameters = self.group.parameters()
        for key, value in files[f"optimizer-{self.name}"].items():
            name, moment = key.rsplit("/", 1)
            if name not in parameters:
                raise CheckpointError(f"the checkpoint's optimiser has {name!r}, which {self.name} does not train")
            device = "cpu" if moment == "step" else parameters[name].device
            self.optimizer.state[parameters[name]][moment] = value.to(device)
        if self.average is not None:
            load_module(self.average, files[f"{self.name}-ema"], f"{self.name}-ema")


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict strictly. Raises `CheckpointError` that lists missing, surplus and misshaped names."""
    own = module.state_dict()
    missing, surplus = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    misshaped = sorted(k for k in set(own) & set(tensors) if own[k].shape != tensors[k].shape)
    if missing or surplus or misshaped:
        raise CheckpointError(
            f"{what} of the checkpoint does not fit: missing {_some(missing)}; surplus {_some(surplus)}; other shape "
            f"{_some(misshaped)}. It was made by another configuration: compare the run's config.toml with this one"
        )
    module.load_state_dict(dict(tensors))


def averaged_weights(tensors: Tensors, name: str) -> dict[str, Tensor]:
    """Return a module's averaged weights, "backbone" or "prior", if a checkpoint's tensors have them, else the last."""
    average = tensors.get(f"{name}-ema")
    if average is None:
        return dict(tensors[name])
    prefix = "module."
    return {key.removeprefix(prefix): value for key, value in average.items() if key.startswith(prefix)}


def _some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}" if names else "none"
