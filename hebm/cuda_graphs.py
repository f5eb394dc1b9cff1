"""Replay sampler steps as CUDA graphs, so that small nets are not limited by the launch time of kernels.

`Graphed(sampler)` is a sampler, so `hebm.sampling.run` and all priors and schemes accept it. Each chain records its
step once at its start and replays it, with the same numbers as the eager step. A step that waits for the GPU
(`.item()`, a condition on a tensor) cannot be recorded and raises an error. On a CPU the sampler runs unchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hebm.densities import LogDensity
from hebm.errors import ConfigError
from hebm.interfaces import Info, Sampler, StepNoise
from hebm.samplers import Adapts

_WARM_UP = 2


class Graphed(Sampler):
    """A wrapper that replays the step of a sampler from a CUDA graph, and takes all other attributes from the sampler.

    Arguments:
        sampler: makes each step.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.draws, self.needs_factor = sampler.draws, sampler.needs_factor  # type: ignore[misc]

    def __repr__(self) -> str:
        """Return the repr of the sampler, marked as recorded."""
        return f"Graphed({self.sampler!r})"

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
        """Return the sampler with another step size, also recorded; see `hebm.samplers.Adapts`."""
        if not isinstance(self.sampler, Adapts):
            raise AttributeError(f"{type(self.sampler).__name__} has no step size to adapt")
        return Graphed(self.sampler.with_step_size(h))

    def check(self, density: LogDensity) -> None:
        """Raise `ConfigError` if the sampler cannot move on this density."""
        self.sampler.check(density)

    def init(self, density: LogDensity, u: Tensor) -> Any:
        """Return the sampler's state at u `(B, D)`; on a GPU, it contains the recorded step.

        Raises `ConfigError` if the step cannot be recorded.
        """
        state = self.sampler.init(density, u)
        if not u.is_cuda:
            return state
        try:
            return Replayed(u, Recording(self.sampler, density, state))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ConfigError(
                f"run.cuda_graphs: a step of {type(self.sampler).__name__} on {type(density).__name__} cannot be "
                f"recorded ({str(error).splitlines()[0]}); set run.cuda_graphs = false"
            ) from error

    def step(self, density: LogDensity, state: Any, noise: StepNoise) -> tuple[Any, Info]:
        """Make a step on the density that the chain started with."""
        if not isinstance(state, Replayed):
            return self.sampler.step(density, state, noise)
        u, info = state.recording.replay(noise)
        return Replayed(u, state.recording), info


class Recording:
    """The recorded step of one chain, with inputs and outputs at fixed addresses.

    Arguments:
        sampler: makes each step.
        density: the density of the chain.
        state: the start of the chain, which is copied.
    """

    def __init__(self, sampler: Sampler, density: LogDensity, state: Any) -> None:
        self.state = type(state)(*(part.clone() for part in state))
        u = self.state[0]
        normal = torch.zeros_like(u) if "normal" in sampler.draws else None
        uniform = torch.full_like(u[:, 0], 0.5) if "uniform" in sampler.draws else None
        self.noise = StepNoise(normal, uniform)
        kept = [(b, b.clone()) for module in density.modules if module.training for b in module.buffers()]
        side = torch.cuda.Stream(u.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(u.device))
        with torch.cuda.stream(side):  # libraries initialise outside of the recording
            for _ in range(_WARM_UP):
                sampler.step(density, self.state, self.noise)
        torch.cuda.current_stream(u.device).wait_stream(side)
        for buffer, before in kept:  # undo the updates of training buffers in the warm-up
            buffer.copy_(before)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # loaders use the GPU meanwhile
            self.after, self.info = sampler.step(density, self.state, self.noise)

    def replay(self, noise: StepNoise) -> tuple[Tensor, Info]:
        """Make a step; return copies of u `(B, D)` and the info, since the next step overwrites them."""
        for mine, given in zip(self.noise, noise, strict=True):
            if mine is not None and given is not None:
                mine.copy_(given)
        self.graph.replay()
        after = [part.clone() for part in self.after]  # copy first: they may share memory with the state
        info = Info._make(None if part is None else part.clone() for part in self.info)
        for mine, new in zip(self.state, after, strict=True):
            mine.copy_(new)
        return after[0], info


class Replayed(NamedTuple):
    """The state of a recorded chain: u `(B, D)`, and the step."""

    u: Tensor
    recording: Recording
