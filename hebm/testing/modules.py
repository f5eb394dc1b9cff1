"""Checks of live modules, and helpers to compare modules."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from hebm.testing.promises import expect_equal, promise
from hebm.testing.subjects import perturbed, seeded

Evaluate = Callable[[nn.Module], Tensor]
"""Maps a module to some of its output as one tensor, always at the same point."""


def expect_state_dict(build: Callable[[], nn.Module], evaluate: Evaluate) -> None:
    """All that a module has learned survives safetensors and a module built from another seed."""
    trained, other = perturbed(seeded(build)).eval(), seeded(build, seed=1).eval()
    state = {name: tensor.contiguous().clone() for name, tensor in trained.state_dict().items()}
    other.load_state_dict(load(save(state)))
    expect_equal(
        "a module with another's state_dict computes the same",
        evaluate(other),
        evaluate(trained),
        "register as parameter or buffer whatever the output depends on",
    )


def expect_deepcopy(build: Callable[[], nn.Module], evaluate: Evaluate) -> None:
    """A deep copy (the moving average is one) computes the same and shares no storage."""
    trained = perturbed(seeded(build)).eval()
    twin = copy.deepcopy(trained)
    fix = "keep no references to tensors outside parameters and buffers"
    expect_equal("a deep copy computes the same", evaluate(twin), evaluate(trained), fix)
    before = evaluate(twin)
    perturbed(trained, 1.0)
    expect_equal("a deep copy stays as it was when the original moves", evaluate(twin), before, fix)


def expect_seeded_build(build: Callable[[], nn.Module]) -> None:
    """Two builds under one seed have equal state."""
    a, b = seeded(build).state_dict(), seeded(build).state_dict()
    differing = [name for name in a if name not in b or not torch.equal(a[name], b[name])]
    promise(
        a.keys() == b.keys() and not differing,
        "building twice under one seed of torch's generator gives the same weights",
        f"different: {', '.join(differing) or sorted(a.keys() ^ b.keys())}",
        "initialise with torch's generator only (torch.nn.init), not with numpy, random or the clock",
    )


def floating(module: nn.Module) -> torch.dtype:
    """Return the type of a module's first floating-point parameter; float32 without one."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
