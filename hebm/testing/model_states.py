"""Check that a call leaves the state of a model unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hebm.testing.promises import expect


class State(NamedTuple):
    """A model's tensors, requires_grad and gradients, and the train or eval mode of each module, by name."""

    tensors: dict[str, Tensor]
    training: dict[str, bool]
    trainable: dict[str, bool]
    gradients: dict[str, Tensor | None]


def state_of(modules: dict[str, nn.Module]) -> State:
    """Return the state of named modules, with copies of their tensors."""
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
    """Raise if the block changes tensors, modes or gradients of a module.

    Arguments:
        what: the call in the block, for the message.
        modules: modules by name. Every second sub-module is put into train mode, so that changed modes are found.
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
    fix = "compute inside `with evaluating(backbone, prior)` of hebm.trained, or through TrainedModel"
    expect(not changed, f"{what} leaves the model's weights, modes and gradients unchanged", seen, fix)
