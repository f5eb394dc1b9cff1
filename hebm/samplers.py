"""The interface of samplers: a pure step under a log density, and what an observer sees of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from hebm.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from hebm.densities import LogDensity


class StepNoise(NamedTuple):
    """The random numbers of one sampler step: those that the sampler lists in `Sampler.draws`.

    Arguments:
        normal: ξ ~ N(0, I), `(B, D)`.
        uniform: on [0, 1), `(B,)`.
    """

    normal: Tensor | None = None
    uniform: Tensor | None = None


def drawn(numbers: Tensor | None) -> Tensor:
    """Return one field of a `StepNoise`. Raises `PluginError` if the sampler does not name it in `draws`."""
    if numbers is None:
        raise PluginError(
            "a sampler's step uses random numbers that it does not ask for: name them in its `draws`, "
            'such as draws = ("normal", "uniform")'
        )
    return numbers


class Info(NamedTuple):
    """What an observer may want to know of a step; the step computes it anyway.

    Arguments:
        value: log density up to a constant, `(B,)`: at the point whose gradient was used, or where the step ended.
        grad: its gradient there, `(B, D)`; None for a sampler that uses no gradient.
        accepted: 1 where a proposal was accepted, `(B,)`; None for unadjusted samplers.
    """

    value: Tensor
    grad: Tensor | None = None
    accepted: Tensor | None = None


class Sampler(ABC):
    """Group `hebm_samplers`. A sampler's recipe is the sampler: frozen, pure, knowing nothing of models.

    Its state is a NamedTuple of tensors whose first field is u. `h` is the one unit of step size:
    u ← u + (h/2) ∇log p + √h ξ; a density's `scale` multiplies it.

    Attributes:
        draws: the random numbers of a step.
        needs_factor: True for a sampler that proposes from the Gaussian factor N(m, s² I) of a density and cannot move
            on a density without one. Its h is in units of s², so a density's `scale` does not apply.
    """

    group: ClassVar[str] = "hebm_samplers"
    draws: ClassVar[tuple[str, ...]] = ("normal",)
    needs_factor: ClassVar[bool] = False
    steps: int

    @property
    def plain(self) -> Sampler:
        """The sampler without acceleration, such as compiled steps."""
        return self

    def check(self, density: LogDensity) -> None:
        """Raise `ConfigError` for a density that this sampler cannot move on.

        It is asked before training, for every density that a run will sample, and again when a chain starts.
        """
        if self.needs_factor and density.factor() is None:
            raise ConfigError(
                f"sampler: {type(self).__name__} proposes from the Gaussian factor N(m, s² I) of a density, and that "
                f"of {type(density).__name__} is not known; use a sampler without that need, such as ula or mala"
            )

    @abstractmethod
    def init(self, density: LogDensity, u: Tensor) -> Any:
        """Return the state at u `(B, D)`."""

    @abstractmethod
    def step(self, density: LogDensity, state: Any, noise: StepNoise) -> tuple[Any, Info]:
        """Make a single step; return the new state and what an observer may want to know."""


@runtime_checkable
class Adapts(Protocol):
    """A sampler whose step size can be adapted to a rate of acceptance after training (`hebm.adaptation`)."""

    steps: int
    step_size: float
    target_acceptance: float
    """Mean acceptance that the step size is adapted to; 0 leaves it as it is."""

    def with_step_size(self, h: float) -> Sampler:
        """Return the same sampler with step size h, or with the largest that it allows."""


TARGET = (
    "mean acceptance, from 0 to 1, that the step size is adapted to after training, on at most 96 steps of 64 chains; "
    "training itself uses step_size. 0: no adaptation"
)
"""What the option `target_acceptance` of a sampler means."""
