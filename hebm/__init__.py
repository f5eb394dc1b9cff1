"""Learned priors of hierarchical latent-variable generators.

The names below are loaded on first use. Every registered component is available under its class name: `hebm.Joint` is
the component of `type = "joint"` in a file. `import hebm` alone imports neither torch nor plugins.

Example:
    >>> import hebm
    >>> hebm.ULA(steps=10).step_size
    0.1
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Annealing": "hebm.evaluation.partition",
    "Backbone": "hebm.interfaces",
    "BackboneRecipe": "hebm.interfaces",
    "Batch": "hebm.interfaces",
    "CheckpointError": "hebm.errors",
    "ConfigError": "hebm.errors",
    "DataError": "hebm.errors",
    "Draw": "hebm.interfaces",
    "EnergyFn": "hebm.interfaces",
    "EvaluateSettings": "hebm.evaluation.settings",
    "Experiment": "hebm.config.experiment",
    "HebmError": "hebm.errors",
    "ImageSpec": "hebm.interfaces",
    "Hierarchy": "hebm.interfaces",
    "InferringBackbone": "hebm.interfaces",
    "InferringHierarchy": "hebm.interfaces",
    "LatentLayout": "hebm.latents",
    "Latents": "hebm.latents",
    "Layer": "hebm.interfaces",
    "Listener": "hebm.training.listeners",
    "Loss": "hebm.interfaces",
    "Measurements": "hebm.measurements",
    "Model": "hebm.model",
    "Noise": "hebm.noise",
    "NonFiniteError": "hebm.errors",
    "Optimization": "hebm.training.optimization",
    "PhaseOptimization": "hebm.training.optimization",
    "PluginError": "hebm.errors",
    "Posterior": "hebm.latents",
    "PriorLearner": "hebm.interfaces",
    "Run": "hebm.runs",
    "RunSettings": "hebm.config.settings",
    "check": "hebm.checking",
    "compare": "hebm.comparing",
    "live": "hebm.config.recipes",
    "load": "hebm.building",
    "measure": "hebm.measuring",
    "open_run": "hebm.runs",
    "option": "hebm.config.recipes",
    "recipe": "hebm.config.recipes",
    "register": "hebm.registry",
    "submit_sweep": "hebm.sweeps.submission",
    "sweep": "hebm.sweeps.running",
    "train": "hebm.runs",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Return a public name, or a registered component by class name. Raises `AttributeError` or `PluginError`."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name[:1].isupper():
        from hebm.class_names import by_class_name

        found = by_class_name(name)
        if found is not None:
            return found
    from hebm.class_names import near_class_name

    near = "" if name.startswith("_") else near_class_name(name, __all__)
    raise AttributeError(f"module 'hebm' has no attribute {name!r}{near} (hebm plugins lists the components)")


def __dir__() -> list[str]:
    """List the public names and the class names of all components, without importing them."""
    from hebm.class_names import class_names

    return sorted({*__all__, *class_names()})
