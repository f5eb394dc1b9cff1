"""The error of failed checks, and the comparisons that checks use."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


class ConformanceError(AssertionError):
    """Raised by a failed check, with what was expected, what was found, and how to fix it."""


def failure(expected: str, found: str, fix: str) -> ConformanceError:
    """Return the error of a failed check."""
    return ConformanceError(f"expected: {expected}\n    found: {found}\n    fix: {fix}")


def expect(condition: bool | Tensor, expected: str, found: str, fix: str) -> None:
    """Raise `ConformanceError` unless the condition holds.

    Arguments:
        condition: whether the check passes.
        expected: the expected value or behaviour, for the message.
        found: the value or behaviour of the component, for the message.
        fix: the advice for the plugin's author, for the message.
    """
    if not condition:
        raise failure(expected, found, fix)


def expect_shape(name: str, tensor: object, shape: Sequence[int], fix: str) -> None:
    """Raise unless `tensor` is a tensor of this shape."""
    seen = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
    expect(seen == tuple(shape), f"{name} has shape {tuple(shape)}", str(seen), fix)


def expect_finite(name: str, tensor: Tensor, fix: str) -> None:
    """Raise if `tensor` has a NaN or an infinity."""
    bad = int((~tensor.isfinite()).sum())
    expect(bad == 0, f"{name} is finite", f"{bad} of {tensor.numel()} values are NaN or infinite", fix)


def expect_close(name: str, seen: Tensor, wanted: Tensor, tolerance: float, fix: str) -> None:
    """Raise unless |seen − wanted| ≤ tolerance · (1 + max |wanted|). A NaN always raises."""
    with torch.no_grad():
        error, allowed = float((seen - wanted).abs().max()), tolerance * (1 + float(wanted.abs().max()))
    expect(error <= allowed, f"{name}, to {tolerance:g}", f"a difference of {error:.3g}, allowed {allowed:.3g}", fix)


def expect_equal(name: str, seen: Tensor, wanted: Tensor, fix: str) -> None:
    """Raise unless both tensors are equal bit for bit."""
    differing = int((seen != wanted).sum()) if seen.shape == wanted.shape else -1
    shapes = f"shape {tuple(seen.shape)} instead of {tuple(wanted.shape)}"
    found = f"{differing} of {wanted.numel()} values differ" if differing >= 0 else shapes
    expect(differing == 0, f"{name}, bit for bit", found, fix)


def expect_gradients(
    loss: Tensor, parameters: Iterable[tuple[str, nn.Parameter]], expected: str, fix: str, nonzero: bool = True
) -> None:
    """Raise unless a scalar has a finite gradient in every parameter.

    Arguments:
        loss: a differentiable scalar.
        parameters: names and parameters.
        expected: the expected behaviour, for the message.
        fix: the advice, for the message.
        nonzero: whether each gradient must also have an element that is not 0.
    """
    named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    expect(loss.requires_grad or not named, expected, "the result depends on no parameter", fix)
    grads = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, retain_graph=True) if named else ()
    unreached = [
        name for (name, _), g in zip(named, grads, strict=True) if g is None or (nonzero and not bool(g.any()))
    ]
    expect(not unreached, expected, f"no gradient in {', '.join(unreached)}", fix)
    broken = [name for (name, _), g in zip(named, grads, strict=True) if g is not None and not g.isfinite().all()]
    expect(not broken, f"{expected}, and it is finite", f"NaN or infinity in {', '.join(broken)}", fix)


@contextmanager
def no_global_randomness(what: str) -> Iterator[None]:
    """Raise if the block changes the state of a global generator (torch, numpy, random)."""
    before = _generators()
    yield
    after = _generators()
    moved = [name for name in before if before[name] != after[name]]
    expect(
        not moved,
        f"{what} uses no global random number generator",
        f"it changed the state of the generator of {' and '.join(moved)}",
        "draw from the noise argument (noise.normal, noise.uniform, draw(noise)), not by Dropout or sample()",
    )


def _generators() -> dict[str, object]:
    """Return the states of the global generators, by name."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": repr(np.random.get_state()),
        "random": random.getstate(),
    }
