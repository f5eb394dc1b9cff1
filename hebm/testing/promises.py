"""The error of failed checks, and the comparisons that checks use."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


class ConformanceError(AssertionError):
    """Raised for a promise that a component does not keep, with the promise, the observation and the fix."""


def promise(kept: bool | Tensor, promised: str, seen: str, fix: str) -> None:
    """Raise `ConformanceError` with promise, observation and fix, unless `kept`."""
    if not kept:
        raise ConformanceError(f"promised: {promised}\n    seen: {seen}\n    fix: {fix}")


def expect_shape(name: str, tensor: object, shape: Sequence[int], fix: str) -> None:
    """Raise unless `tensor` is a tensor of this shape."""
    seen = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
    promise(seen == tuple(shape), f"{name} has shape {tuple(shape)}", str(seen), fix)


def expect_finite(name: str, tensor: Tensor, fix: str) -> None:
    """Raise if `tensor` has a NaN or an infinity."""
    bad = int((~tensor.isfinite()).sum())
    promise(bad == 0, f"{name} is finite", f"{bad} of {tensor.numel()} values are not", fix)


def expect_close(name: str, seen: Tensor, wanted: Tensor, tolerance: float, fix: str) -> None:
    """Raise unless |seen − wanted| ≤ tolerance · (1 + max |wanted|). A NaN always raises."""
    with torch.no_grad():
        error, allowed = float((seen - wanted).abs().max()), tolerance * (1 + float(wanted.abs().max()))
    promise(error <= allowed, f"{name} to {tolerance:g}", f"off by {error:.3g}, allowed {allowed:.3g}", fix)


def expect_equal(name: str, seen: Tensor, wanted: Tensor, fix: str) -> None:
    """Raise unless both tensors are equal bit for bit."""
    differing = int((seen != wanted).sum()) if seen.shape == wanted.shape else -1
    found = (
        f"{differing} of {wanted.numel()} values differ" if differing >= 0 else f"shapes {seen.shape}, {wanted.shape}"
    )
    promise(differing == 0, f"{name}, bit for bit", found, fix)


def expect_gradients(
    loss: Tensor, parameters: Iterable[tuple[str, nn.Parameter]], promised: str, fix: str, nonzero: bool = True
) -> None:
    """Raise unless the gradient of a scalar reaches every parameter and is finite.

    Arguments:
        loss: a differentiable scalar.
        parameters: names and parameters.
        promised: the promise, for the message.
        fix: the fix, for the message.
        nonzero: also require an element that is not 0 in each gradient.
    """
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    promise(loss.requires_grad or not named, promised, "the result depends on no parameter", fix)
    grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, retain_graph=True) if named else ()
    unreached = [
        name for (name, _), g in zip(named, grads, strict=True) if g is None or (nonzero and not bool(g.any()))
    ]
    promise(not unreached, promised, f"no gradient in {', '.join(unreached)}", fix)
    broken = [name for (name, _), g in zip(named, grads, strict=True) if g is not None and not g.isfinite().all()]
    promise(not broken, f"{promised}, finite", f"NaN or infinite in {', '.join(broken)}", fix)


@contextmanager
def no_global_randomness(what: str) -> Iterator[None]:
    """Raise if the block changes the state of a global generator (torch, numpy, random)."""
    before = _generators()
    yield
    after = _generators()
    moved = [name for name in before if before[name] != after[name]]
    promise(
        not moved,
        f"{what} touches no global generator",
        f"the generator of {' and '.join(moved)} moved",
        "draw from the Noise given (noise.normal, noise.uniform, draw(noise)); no Dropout, no Distribution.sample",
    )


def _generators() -> dict[str, object]:
    """Return the states of the global generators, by name."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": repr(np.random.get_state()),
        "random": random.getstate(),
    }
