"""What parity tests share: the vector files, noise that comes from them, and names mapped to ours."""

import json
from pathlib import Path

import numpy as np
import torch

VECTORS = Path(__file__).parent.parent / "vectors" / "ebm"


def load(name):
    """A vector file as float64 tensors by key."""
    with np.load(VECTORS / f"{name}.npz") as file:
        numbers = {key: np.asarray(file[key], dtype=np.float64) for key in file.files if file[key].dtype.kind in "fiu"}
    return {key: torch.from_numpy(value) for key, value in numbers.items()}


def closed_form(key):
    """One entry of the closed forms."""
    return json.loads((VECTORS / "closed_form.json").read_text())[key]


class FedNoise:
    """Gives recorded tensors instead of drawing: the k-th call returns the k-th."""

    def __init__(self, steps):
        self._steps = iter(steps)

    def normal(self, rows, *shape):
        out = next(self._steps)
        assert out.shape == (rows, *shape)
        return out


def close(actual, expected, tolerance=1e-8):
    """Equal to a tolerance relative to the array's maximum, with an absolute floor of 1e-12."""
    error = (actual.detach() - expected).abs().max()
    allowed = tolerance * expected.abs().max() + 1e-12
    assert error <= allowed, f"differs by {error:.3g}, allowed {allowed:.3g}"


def linears(vectors, prefix, names):
    """State-dict entries of a Sequential of Linear and activation, from named layers."""
    return {
        f"{2 * i}.{kind}": vectors[f"{prefix}{name}.{kind}"]
        for i, name in enumerate(names)
        for kind in ("weight", "bias")
    }
