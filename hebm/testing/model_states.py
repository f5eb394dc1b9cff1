"""Compare the state of a model before and after a check, which must not change it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hebm.testing.promises import promise


class State(NamedTuple):
    """A model's tensors, and the train or eval mode of each module, by name."""

    tensors: dict[str, Tensor]
    training: dict[str, bool]
    trainable: dict[str, bool]
    gradients: dict[str, Tensor | None]


def state_of(modules: dict[str, nn.Module]) -> State:
    """Return the state of modules by name, with copies of their tensors."""
    parts = {f"{name}.{inner}": part for name, m in modules.items() for inner, part in m.named_modules()}
    parameters = {f"{name}.{inner}": p for name, m in modules.items() for inner, p in m.named_parameters()}
    tensors = {f"{name}.{inner}": t for name, m in modules.items() for inner, t in m.state_dict().items()}
    return State(
        {name: tensor.detach().clone() for name, tensor in tensors.items()},
        {name: part.training for name, part in parts.items()},
        {name: parameter.requires_grad for name, parameter in parameters.items()},
        {name: parameter.grad for name, parameter in parameters.items()},
    )


@contextmanager
def unchanged(what: str, **modules: nn.Module) -> Iterator[None]:
    """Raise if a module has other tensors, modes or gradients after the block.

    Arguments:
        what: the call that must change nothing, for the message.
        modules: modules by name; half of their parts are put into training mode, so that a changed mode is found.
    """
    parts = [part for module in modules.values() for part in module.modules()]
    for i, part in enumerate(parts):
        part.training = i % 2 == 0
    before = state_of(modules)
    yield
    after = state_of(modules)
    changed = [
        *(f"the values of {n}" for n in before.tensors if not torch.equal(before.tensors[n], after.tensors[n])),
        *(f"the mode of {n.rstrip('.')}" for n in before.training if before.training[n] != after.training[n]),
        *(f"requires_grad of {n}" for n in before.trainable if before.trainable[n] != after.trainable[n]),
        *(f"the gradient of {n}" for n in before.gradients if before.gradients[n] is not after.gradients[n]),
    ]
    seen = f"it changed {', '.join(changed[:3])}" + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    fix = (
        "compute inside `with evaluating(backbone, prior)` of hebm.trained, or through TrainedModel, and change nothing"
    )
    promise(not changed, f"{what} leaves the model's weights, modes and gradients as they were", seen, fix)
