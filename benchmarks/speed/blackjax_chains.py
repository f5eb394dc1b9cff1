"""Chains of blackjax, on jitted JAX, for the model `mlp`: ULA and MALA on the same weights, on one core.

The kernel of the library is mapped over chains by `vmap` and over steps by `lax.scan`, in one compiled call.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

from models import Subject
from torch import Tensor, nn

from hebm.densities import LogDensity

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def missing() -> str | None:
    """Return why these chains cannot run; None if they can."""
    found = importlib.util.find_spec("blackjax") is not None
    return None if found else "blackjax is not installed: pip install -e '.[speed]'"


def use_one_core() -> None:
    """Keep this process on one core, and JAX to one thread. Call it before JAX is imported."""
    os.environ.update(XLA_FLAGS=ONE_THREAD, JAX_PLATFORMS="cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def log_density(subject: Subject) -> Callable[[Any], Any]:
    """Return log p of one chain's u `(D,)` up to a constant: a net of one hidden layer on z = s u, and −|u|²/2."""
    import jax
    import jax.numpy as jnp

    (net,) = subject.prior.energy.nets
    first, last = (layer for layer in net if isinstance(layer, nn.Linear))
    w, b, v, c = (jnp.asarray(p.detach().numpy()) for p in (first.weight, first.bias, last.weight[0], last.bias[0]))
    s = subject.backbone.top_std
    return lambda u: jnp.dot(v, jax.nn.silu(w @ (s * u) + b)) + c - 0.5 * jnp.dot(u, u)


def check_gradient(subject: Subject, density: LogDensity, u: Tensor) -> None:
    """Raise unless JAX and hebm have the same gradient at u `(B, D)`, up to rounding."""
    import jax
    import numpy as np

    theirs = np.asarray(jax.vmap(jax.grad(log_density(subject)))(u.numpy()))
    error = float(np.abs(theirs - density.value_and_grad(u).grad.numpy()).max())
    if error > 1e-4:
        raise SystemExit(f"the gradients of JAX and of hebm differ by {error:.1e}, allowed is 1e-4")


def chains(subject: Subject, h: float, u: Tensor, steps: int) -> dict[str, Callable[[], object]]:
    """Return functions that run ULA and MALA from u `(B, D)`, with step size h, and wait for the end."""
    import blackjax
    import jax
    from blackjax.mcmc.diffusions import DiffusionState, overdamped_langevin

    target = log_density(subject)
    value_and_grad = jax.value_and_grad(target)
    langevin, mala = overdamped_langevin(value_and_grad), blackjax.mala(target, h / 2)
    kernels = {
        "ula": (lambda point: DiffusionState(point, *value_and_grad(point)), lambda k, at: langevin(k, at, h / 2)),
        "mala": (mala.init, lambda k, at: mala.step(k, at)[0]),
    }

    def chain(init: Callable[..., Any], step: Callable[..., Any]) -> Callable[[], object]:
        @jax.jit
        def run(key: Any, points: Any) -> Any:
            def move(states: Any, key: Any) -> tuple[Any, None]:
                return jax.vmap(step)(jax.random.split(key, len(points)), states), None

            states, _ = jax.lax.scan(move, jax.vmap(init)(points), jax.random.split(key, steps))
            return states.position

        key, start = jax.random.key(0), jax.numpy.asarray(u.numpy())
        return lambda: run(key, start).block_until_ready()

    return {name: chain(*kernel) for name, kernel in kernels.items()}
