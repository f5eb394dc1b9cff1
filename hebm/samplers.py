"""The interface of samplers: a pure step on a log density, and the information that it gives to observers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from hebm.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from hebm.densities import LogDensity


class StepNoise(NamedTuple):
    """The random numbers of one sampler step. A field is None unless the sampler lists it in `Sampler.draws`.

    Arguments:
        normal: ξ ~ N(0, I), `(B, D)`.
        uniform: on [0, 1), `(B,)`.
    """

    normal: Tensor | None = None
    uniform: Tensor | None = None


def drawn(numbers: Tensor | None) -> Tensor:
    """Return a field of a `StepNoise`. Raises `PluginError` if the sampler does not list it in `draws`."""
    if numbers is None:
        raise PluginError(
            "a sampler's step uses random numbers that it does not declare: list them in its `draws`, "
            'such as draws = ("normal", "uniform")'
        )
    return numbers


class Info(NamedTuple):
    """Values that a step computes anyway, for observers.

    Arguments:
        value: log density up to a constant, `(B,)`, at the point whose gradient the step used, or where the step ended.
        grad: the gradient at that point, `(B, D)`; None for a sampler that uses no gradient.
        accepted: 1 where a proposal was accepted, `(B,)`; None for unadjusted samplers.
    """

    value: Tensor
    grad: Tensor | None = None
    accepted: Tensor | None = None


class Sampler(ABC):
    """An MCMC sampler, registered in the group `hebm_samplers`. It is its own recipe: frozen, pure, and free of models.

    The state is a NamedTuple of tensors whose first field is u. All samplers define the step size h as in

        u ← u + (h/2) ∇log p + √h ξ.

    A density's `scale` multiplies h.

    Attributes:
        draws: the random numbers of a step, fields of `StepNoise`.
        needs_factor: True if the sampler proposes from the Gaussian factor N(m, s² I) of a density, so that it cannot
            move on a density without one. Its h is in units of s², so a density's `scale` does not apply.
    """

    group: ClassVar[str] = "hebm_samplers"
    draws: ClassVar[tuple[str, ...]] = ("normal",)
    needs_factor: ClassVar[bool] = False
    steps: int

    @property
    def plain(self) -> Sampler:
        """The same sampler without acceleration, such as compiled steps."""
        return self

    def check(self, density: LogDensity) -> None:
        """Raise `ConfigError` for a density that this sampler cannot move on.

        It is called before training, for every density that a run will sample, and again when a chain starts.
        """
        if self.needs_factor and density.factor() is None:
            raise ConfigError(
                f"sampler: {type(self).__name__} proposes from the Gaussian factor N(m, s² I) of a density, and "
                f"{type(density).__name__} has no known one; use a sampler that needs none, such as ula or mala"
            )

    @abstractmethod
    def init(self, density: LogDensity, u: Tensor) -> Any:
        """Return the state at u `(B, D)`."""

    @abstractmethod
    def step(self, density: LogDensity, state: Any, noise: StepNoise) -> tuple[Any, Info]:
        """Make one step; return the new state and the information for observers."""

    def advance(self, density: LogDensity, state: Any, draw: Callable[[], StepNoise], count: int) -> Any:
        """Make `count` steps that nobody observes, each with the next noise from `draw`; return the last state."""
        for _ in range(count):
            state, _ = self.step(density, state, draw())
        return state


@runtime_checkable
class Adapts(Protocol):
    """A sampler whose step size can be adapted to a target acceptance rate after training (`hebm.adaptation`)."""

    steps: int
    step_size: float
    target_acceptance: float
    """Mean acceptance that the step size is adapted to; 0 turns adaptation off."""

    def with_step_size(self, h: float) -> Sampler:
        """Return the same sampler with step size h, or with the largest step size that it allows."""


TARGET = (
    "mean acceptance, from 0 to 1, that the step size is adapted to after training, on at most 96 steps of 64 chains; "
    "training itself uses step_size. 0: no adaptation"
)
"""The description of a sampler's option `target_acceptance`."""
