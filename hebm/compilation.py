"""Compiled sampler steps: T, the energies, the gradient and the update as one graph.

`Compiled(sampler)` is a sampler, so `hebm.sampling.run` and every prior and scheme take it as it is. It compiles once
for each class of density, variant of its tilt and model. New densities, other batch sizes and weights after an update
use the same graph: weights and a density's tensors are its inputs. A step that is not a single graph is an error, never
a silent return to the slow path.

Values differ from those of the eager step by rounding.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import torch
from torch import Tensor

from hebm.config.recipes import fields_of, is_recipe
from hebm.densities import LogDensity
from hebm.errors import ConfigError
from hebm.interfaces import Info, Sampler, StepNoise
from hebm.samplers import Adapts

R = TypeVar("R")
Step = Callable[[Sampler, LogDensity, Any, StepNoise], tuple[Any, Info]]


class Compiled(Sampler):
    """Another sampler whose step is one compiled graph; its other attributes are that sampler's.

    Arguments:
        sampler: makes each step.
        backend: of `torch.compile`; "inductor" needs a C++ compiler on a CPU.
    """

    def __init__(self, sampler: Sampler, backend: str = "inductor") -> None:
        self.sampler, self.backend = sampler, backend
        self.draws, self.needs_factor = sampler.draws, sampler.needs_factor  # type: ignore[misc]
        self._steps: dict[tuple[Any, ...], Step] = {}

    def __repr__(self) -> str:
        """Return the sampler's own text, marked as compiled."""
        return f"Compiled({self.sampler!r})"

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the sampler, such as `steps`."""
        if name == "sampler":  # not there yet while this is being copied
            raise AttributeError(name)
        return getattr(self.sampler, name)

    @property
    def plain(self) -> Sampler:
        """The sampler itself, whose steps are eager."""
        return self.sampler.plain

    def with_step_size(self, h: float) -> Sampler:
        """Return the sampler with another step size, accelerated in the same way; see `hebm.samplers.Adapts`."""
        if not isinstance(self.sampler, Adapts):
            raise AttributeError(f"{type(self.sampler).__name__} has no step size to adapt")
        return Compiled(self.sampler.with_step_size(h), self.backend)

    def check(self, density: LogDensity) -> None:
        """Raise `ConfigError` for a density that the sampler cannot move on."""
        self.sampler.check(density)

    def init(self, density: LogDensity, u: Tensor) -> Any:
        """Return the sampler's state at u `(B, D)`; it is not compiled, since it runs once a chain."""
        return self.sampler.init(density, u)

    def step(self, density: LogDensity, state: Any, noise: StepNoise) -> tuple[Any, Info]:
        """Make a single step.

        Raises `ConfigError` if it cannot be compiled as one graph, or has too many variants: what changes from
        chain to chain should be a tensor of the density, not a number.
        """
        key = (type(density), density.variant, *map(id, density.modules))
        if key not in self._steps:
            self._steps[key] = torch.compile(_own_step(), fullgraph=True, dynamic=True, backend=self.backend)
        try:
            return self._steps[key](self.sampler, density, state, noise)
        except _compiler_errors() as error:
            raise ConfigError(
                f"run.compile: a step of {type(self.sampler).__name__} on {type(density).__name__} cannot be "
                f"compiled ({_first_line(error)}); set run.compile = false"
            ) from error


def compiled(recipe: R) -> R:
    """Return the same recipe with every sampler in it, at any depth, compiled; for building, not for writing to a file.

    Arguments:
        recipe: of a prior or a scheme, say.
    """
    return with_samplers(recipe, lambda sampler: sampler if isinstance(sampler, Compiled) else Compiled(sampler))


def with_samplers(recipe: R, change: Callable[[Sampler], Sampler]) -> R:
    """Return the same recipe with every sampler in it, at any depth, replaced."""

    def changed(value: Any) -> Any:
        if isinstance(value, Sampler):
            return change(value)
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        return with_samplers(value, change) if is_recipe(type(value)) else value

    fields = {field.name: changed(getattr(recipe, field.name)) for field in fields_of(type(recipe))}
    return attrs.evolve(recipe, **fields)  # type: ignore[misc]


def _step(sampler: Sampler, density: LogDensity, state: Any, noise: StepNoise) -> tuple[Any, Info]:
    return sampler.step(density, state, noise)


def _own_step() -> Step:
    """`_step` with a code object of its own: by that, torch counts a function's variants and stops after eight."""
    return types.FunctionType(_step.__code__.replace(), globals())


def _compiler_errors() -> tuple[type[Exception], ...]:
    from torch._dynamo import exc  # when asked: it takes seconds to import

    return tuple(
        value
        for value in vars(exc).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == exc.__name__
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
