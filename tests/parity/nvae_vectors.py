"""What the parity tests of NVAE share: the vector files, and names below a layer, theirs to ours."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file

VECTORS = Path(__file__).parent.parent / "vectors" / "nvae"

_NAMES = (
    (r"cell1\.", "first."),
    (r"cell2\.", "second."),
    (r"conv\.convz\.0", "spread"),
    (r"conv\.convz\.2", "depthwise"),
    (r"mu\.conv_0", "mean"),
    (r"_ops\.", "ops."),
    (r"bn\.bn|bn_act", "norm"),
    (r"conv_0", "conv"),
    (r"skip\.conv_(\d)", lambda m: f"skip.convs.{int(m[1]) - 1}"),
    (r"^conv_(\d)", lambda m: f"convs.{int(m[1]) - 1}"),
    (r"^1\.|skip\.1\.", lambda m: m[0].replace("1", "conv")),
    (r"se\.0", "squeeze"),
    (r"se\.2", "excite"),
    (r"se\.squeeze", "se.squeeze"),
)
_BOTTLENECK = ("norm", "expand", "spatial", "project", "project_norm")


def load(name):
    """A safetensors file of the vectors."""
    return load_file(VECTORS / f"{name}.safetensors")


def read_json(name):
    """A JSON file of the vectors."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def ours(theirs, keys):
    """The name of a layer's tensor here; `keys` are all of the layer's, to see whether it up-samples."""
    first = 1 if any(re.search(r"(^|\.)conv\.1\.bn\.", key) for key in keys) else 0

    def position(match):
        what = _BOTTLENECK[int(match[2]) - first]
        inner = {".conv.0": "", ".conv.1": "_norm", ".bn": "", None: ""}[match[3]]
        return f"{match[1]}{what}{inner}."

    name = re.sub(r"^((?:_ops\.0\.)?)conv\.(\d)(\.conv\.[01]|\.bn)?\.(?=\w+$)", position, theirs)
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def state(vectors, case, part="param", dtype=torch.float64):
    """A layer's parameters, or its running statistics, under our names."""
    prefix = f"{case}/{part}/"
    keys = [key.removeprefix(prefix) for key in vectors if key.startswith(prefix)]
    return {ours(key, keys): vectors[prefix + key].to(dtype) for key in keys}


def close(actual, expected, tolerance=1e-9):
    """|actual − expected| ≤ tolerance · (1 + |expected|), elementwise."""
    actual, expected = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (actual, expected))
    assert actual.shape == expected.shape, f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    excess = ((actual - expected).abs() / (1 + expected.abs())).max()
    assert excess <= tolerance, f"differs by {excess:.3g}, allowed {tolerance:.3g}"
