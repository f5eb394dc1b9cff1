"""Adapt the step size of a chain to a target acceptance rate, after training and before sampling.

With a_k the mean acceptance of N = 64 chains in step k, drawn from fixed noise, and a* the target (Robbins–Monro):

    log h_{k+1} = log h_k + γ_k (a_k − a*),    γ_k = 4 (k + 1)^−0.6

h is the geometric mean over the second half of the steps. It depends on the trained weights alone and not on later
draws, so sample i still depends only on the seed and i.

References:
    Robbins and Monro, A stochastic approximation method, 1951.
    Andrieu and Thoms, A tutorial on adaptive MCMC, Statistics and Computing 18, 2008, section 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeGuard, TypeVar

import attrs
import torch
from torch import Tensor, nn

from hebm.backbone import Backbone
from hebm.densities import LogDensity
from hebm.draws import Request
from hebm.noise import BLOCK, Noise
from hebm.samplers import Adapts, Info, Sampler, StepNoise
from hebm.sampling import Trace
from hebm.transitions import MCMC, Transition, path_to
from hebm.walking import walk

if TYPE_CHECKING:
    from hebm.interfaces import PriorLearner

Key = TypeVar("Key")
Found = TypeVar("Found")

STEPS = 48
GAIN, DECAY = 4.0, 0.6


class Adaptation(NamedTuple):
    """An adapted step size h, and the acceptance rate of chains that use it."""

    step_size: float
    acceptance: float


class Known(Generic[Key, Found]):
    """A cache of values computed from one model, such as its adaptations. It is cleared when the weights change."""

    def __init__(self) -> None:
        self._weights: tuple[tuple[int, int], ...] = ()
        self._found: dict[Key, Found] = {}

    def of(self, model: nn.Module) -> dict[Key, Found]:
        """Return the mutable cache for the current weights of the model."""
        tensors = model.state_dict(keep_vars=True).values()
        weights = tuple((id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
        if weights != self._weights:
            self._weights, self._found = weights, {}
        return self._found


def adapted(
    prior: PriorLearner,
    backbone: Backbone,
    listed: Sequence[Transition],
    known: dict[str, Adaptation],
    noise: Noise,
) -> tuple[Transition, ...]:
    """Return the transitions with step sizes that reach the target acceptance of each chain.

    Arguments:
        prior: the prior of the transitions.
        backbone: gives T.
        listed: the transitions in order; those without a target are returned unchanged.
        known: the adaptations found before, by transition; new ones are added.
        noise: the noise of the chains that adapt step sizes; pass the same noise each time.
    """
    done: list[Transition] = []
    for transition in listed:
        if not has_target(transition):
            done.append(transition)
            continue
        if transition.name not in known:
            path = path_to((*done, transition))[:-1]
            known[transition.name] = _adapt(prior, backbone, path, transition, noise.derive(transition.name))
        sampler: Any = transition.sampler
        done.append(attrs.evolve(transition, sampler=sampler.with_step_size(known[transition.name].step_size)))
    return tuple(done)


def unknown(listed: Sequence[Transition], known: Mapping[str, Adaptation]) -> bool:
    """Return whether `adapted` has to adapt a step size that is not in `known`."""
    return any(has_target(transition) and transition.name not in known for transition in listed)


def has_target(transition: Transition) -> TypeGuard[MCMC]:
    """Return whether a transition is a chain with a target acceptance."""
    if not isinstance(transition, MCMC):
        return False
    sampler = transition.sampler
    return isinstance(sampler, Adapts) and sampler.target_acceptance > 0


def sweeps_of(chain: MCMC) -> float:
    """Return the cost of adapting a chain, in units of drawing 64 samples."""
    steps = max(1, chain.sampler.steps)
    return (STEPS + min(steps, STEPS)) / steps


def _adapt(
    prior: PriorLearner, backbone: Backbone, path: tuple[Transition, ...], chain: MCMC, noise: Noise
) -> Adaptation:
    """Find the step size of the chain that follows a path.

    The chains start again at the end of the path after every `sampler.steps` steps, so they visit the same states as
    draws.
    """
    *_, (_, start) = walk(prior, backbone, BLOCK, noise.derive("start"), Request(), path)
    searching = _Searching(chain.sampler)
    searched = attrs.evolve(chain, sampler=searching)
    for sweep in range(-(-STEPS // searching.steps)):
        steps = min(searching.steps, STEPS - len(searching.sizes))
        searched.move(start, noise.derive("sweep", sweep), Request(steps=steps))
    h, trace = searching.found(), Trace()
    frozen = attrs.evolve(chain, sampler=searching.sampler.with_step_size(h))
    frozen.move(start, noise.derive("found"), Request(steps=min(searching.steps, STEPS), observe=trace))
    return Adaptation(h, float(torch.stack(trace.accepted).double().mean()))


class _Searching(Sampler):
    """A wrapper of a sampler that adapts the step size to the acceptance of each step.

    Arguments:
        sampler: a sampler with a target acceptance. Its acceleration is turned off, since it would compile again for
            every step size.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler, self.draws, self.needs_factor = sampler.plain, sampler.draws, sampler.needs_factor  # type: ignore[misc]
        self.steps, self.h = sampler.steps, sampler.step_size
        self.sizes: list[float] = []

    def init(self, density: LogDensity, u: Tensor) -> Any:
        """Return the sampler's state at u `(B, D)`."""
        return self.sampler.init(density, u)

    def step(self, density: LogDensity, state: Any, noise: StepNoise) -> tuple[Any, Info]:
        """Make a step, and update the step size by its acceptance."""
        now = self.sampler.with_step_size(self.h)
        state, info = now.step(density, state, noise)
        rate = float(info.accepted.double().mean())
        gain = GAIN * (len(self.sizes) + 1) ** -DECAY
        self.sizes.append(now.step_size)
        self.h = now.step_size * math.exp(gain * (rate - self.sampler.target_acceptance))
        return state, info

    def found(self) -> float:
        """Return the geometric mean of the second half of the step sizes, rounded to three digits."""
        late = self.sizes[len(self.sizes) // 2 :]
        return float(f"{math.exp(math.fsum(map(math.log, late)) / len(late)):.3g}")
