"""Compile sampler steps: T, the energies, the gradient and the update become one graph.

`Compiled(sampler)` is a sampler, so `hebm.sampling.run` and all priors and schemes accept it. It compiles once for each
combination of density class, tilt variant and model. New densities, other batch sizes and updated weights reuse the
graph, since weights and tensors of the density are its inputs. A step that does not compile to a single graph raises an
error; it never falls back to the eager step silently.

Its values equal those of the eager step up to rounding.
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

_TOGETHER, _SMALL = 10, 50


class Compiled(Sampler):
    """A wrapper that compiles the step of a sampler to one graph, and takes all other attributes from the sampler.

    Arguments:
        sampler: makes each step.
        backend: the backend of `torch.compile`; "inductor" needs a C++ compiler on a CPU.
    """

    def __init__(self, sampler: Sampler, backend: str = "inductor") -> None:
        self.sampler, self.backend = sampler, backend
        self.draws, self.needs_factor = sampler.draws, sampler.needs_factor  # type: ignore[misc]
        self._compiled: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self._evaluates = False

    def __repr__(self) -> str:
        """Return the repr of the sampler, marked as compiled."""
        return f"Compiled({self.sampler!r})"

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the sampler, such as `steps`."""
        if name == "sampler":  # not set yet while this object is being copied
            raise AttributeError(name)
        return getattr(self.sampler, name)

    @property
    def plain(self) -> Sampler:
        """The sampler with eager steps."""
        return self.sampler.plain

    def with_step_size(self, h: float) -> Sampler:
        """Return the sampler with another step size, also compiled; see `hebm.samplers.Adapts`."""
        if not isinstance(self.sampler, Adapts):
            raise AttributeError(f"{type(self.sampler).__name__} has no step size to adapt")
        return Compiled(self.sampler.with_step_size(h), self.backend)

    def check(self, density: LogDensity) -> None:
        """Raise `ConfigError` if the sampler cannot move on this density."""
        self.sampler.check(density)

    def init(self, density: LogDensity, u: Tensor) -> Any:
        """Return the sampler's state at u `(B, D)`.

        It runs once per chain, so it is compiled only for small models, from the second chain on, and only if the state
        has more than u.
        """
        if self._evaluates and _is_small(density):
            return self._run(density, ("init",), _init, u, None)
        state = self.sampler.init(density, u)
        self._evaluates = len(state) > 1
        return state

    def step(self, density: LogDensity, state: Any, noise: StepNoise) -> tuple[Any, Info]:
        """Make a single step.

        Raises `ConfigError` if the step cannot be compiled to one graph, or has too many variants. Values that change
        from chain to chain should be tensors of the density, not numbers.
        """
        return self._run(density, ("step",), _step, state, noise)  # type: ignore[no-any-return]

    def advance(self, density: LogDensity, state: Any, draw: Callable[[], StepNoise], count: int) -> Any:
        """Make `count` steps. Where the model is small, one call of the compiled code makes several of them."""
        together = steps_together(density, count)
        for _ in range(count // together):
            noises = tuple(draw() for _ in range(together))
            state = self._run(density, ("advance", together), _advance, state, noises)
        return state

    def _run(self, density: LogDensity, form: tuple[Any, ...], work: Callable[..., Any], state: Any, noise: Any) -> Any:
        key = (*form, type(density), density.variant, *map(id, density.modules))
        if key not in self._compiled:
            self._compiled[key] = torch.compile(_own(work), fullgraph=True, dynamic=True, backend=self.backend)
        try:
            return self._compiled[key](self.sampler, density, state, noise)
        except _compiler_errors() as error:
            raise ConfigError(
                f"run.compile: a step of {type(self.sampler).__name__} on {type(density).__name__} cannot be "
                f"compiled ({_first_line(error)}); set run.compile = false"
            ) from error


def steps_together(density: LogDensity, count: int) -> int:
    """Return how many of `count` steps are compiled into one graph: a divisor of `count`, at most 10.

    A call of compiled code takes about as long as the products of a small net, and compiling takes time in proportion
    to the graph. So models of more than 50 modules have one step per graph.
    """
    return max(k for k in range(1, _TOGETHER + 1) if count % k == 0) if _is_small(density) else 1


def compiled(recipe: R) -> R:
    """Return the recipe with all samplers in it, at any depth, compiled. Build from it, but do not write it to a file.

    Arguments:
        recipe: the recipe of a prior or a scheme.
    """
    return with_samplers(recipe, lambda sampler: sampler if isinstance(sampler, Compiled) else Compiled(sampler))


def with_samplers(recipe: R, change: Callable[[Sampler], Sampler]) -> R:
    """Return the recipe with all samplers in it, at any depth, replaced by `change`."""

    def changed(value: Any) -> Any:
        if isinstance(value, Sampler):
            return change(value)
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        return with_samplers(value, change) if is_recipe(type(value)) else value

    fields = {field.name: changed(getattr(recipe, field.name)) for field in fields_of(type(recipe))}
    return attrs.evolve(recipe, **fields)  # type: ignore[misc]


def _is_small(density: LogDensity) -> bool:
    return sum(1 for module in density.modules for _ in module.modules()) <= _SMALL


def _init(sampler: Sampler, density: LogDensity, u: Tensor, noise: None) -> Any:
    return sampler.init(density, u)


def _step(sampler: Sampler, density: LogDensity, state: Any, noise: StepNoise) -> tuple[Any, Info]:
    return sampler.step(density, state, noise)


def _advance(sampler: Sampler, density: LogDensity, state: Any, noises: tuple[StepNoise, ...]) -> Any:
    for noise in noises:
        state, _ = sampler.step(density, state, noise)
    return state


def _own(work: Callable[..., Any]) -> types.FunctionType:
    """Return `work` with a new code object. Torch counts compiled variants by code object, and stops after eight."""
    return types.FunctionType(work.__code__.replace(), globals())


def _compiler_errors() -> tuple[type[Exception], ...]:
    from torch._dynamo import exc  # imported here: it takes seconds

    return tuple(
        value
        for value in vars(exc).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == exc.__name__
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
