"""Check that live modules can be saved, copied and built from a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from hebm.testing.promises import expect, expect_equal
from hebm.testing.subjects import perturbed, seeded

Evaluate = Callable[[nn.Module], Tensor]
"""A function that evaluates a module at a fixed point and returns one tensor."""


def expect_state_dict(build: Callable[[], nn.Module], evaluate: Evaluate) -> None:
    """Raise unless a module built with another seed computes the same with this one's state after saving it."""
    trained, other = perturbed(seeded(build)).eval(), seeded(build, seed=1).eval()
    state = {name: tensor.contiguous().clone() for name, tensor in trained.state_dict().items()}
    other.load_state_dict(load(save(state)))
    expect_equal(
        "a module computes the same with the state_dict of another",
        evaluate(other),
        evaluate(trained),
        "register everything that the output depends on as a parameter or a buffer",
    )


def expect_deepcopy(build: Callable[[], nn.Module], evaluate: Evaluate) -> None:
    """Raise unless a deep copy, such as the moving average, computes the same and shares no storage."""
    trained = perturbed(seeded(build)).eval()
    twin = copy.deepcopy(trained)
    fix = "store tensors only as parameters and buffers"
    expect_equal("a deep copy computes the same", evaluate(twin), evaluate(trained), fix)
    before = evaluate(twin)
    perturbed(trained, 1.0)
    expect_equal("a deep copy computes the same after the original has changed", evaluate(twin), before, fix)


def expect_seeded_build(build: Callable[[], nn.Module]) -> None:
    """Raise unless two builds with one seed have equal state."""
    a, b = seeded(build).state_dict(), seeded(build).state_dict()
    differing = [name for name in a if name not in b or not torch.equal(a[name], b[name])]
    expect(
        a.keys() == b.keys() and not differing,
        "building twice with one seed of torch gives the same weights",
        f"different weights: {', '.join(differing) or sorted(a.keys() ^ b.keys())}",
        "initialise weights with torch.nn.init only, not with numpy, random or the clock",
    )


def floating(module: nn.Module) -> torch.dtype:
    """Return the dtype of a module's first floating-point parameter; float32 without one."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
