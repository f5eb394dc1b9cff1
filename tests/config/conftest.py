"""Small recipes registered by hand, and a file that uses them all."""

from __future__ import annotations

import pytest
from small_recipes import Count, Dots, Generator, Jump, Net, Pictures, Plan, Tilted, Walk

from hebm import registry

TOYS = {
    ("hebm_samplers", "walk"): Walk,
    ("hebm_samplers", "jump"): Jump,
    ("hebm_energies", "net"): Net,
    ("hebm_priors", "tilted"): Tilted,
    ("hebm_backbones", "generator"): Generator,
    ("hebm_datasets", "pictures"): Pictures,
    ("hebm_datasets", "dots"): Dots,
    ("hebm_schemes", "plan"): Plan,
    ("hebm_metrics", "count"): Count,
}

VALID = """\
# every kind of key
seed = 3

[data]
type = "pictures"
root = "somewhere"

[backbone]
type = "generator"
z_dims = [
    16,
    32,  # a comment
]

[prior]
type = "tilted"
energy = { type = "net", width = [8, 8], norm = "spectral", rate = 0.1 }

[prior.sampler]
steps = 30

[prior.base]
type = "tilted"

[train]
type = "plan"
backbone.rate = 1

[evaluate]
samples = 500
metrics = ["count", { type = "count", of = 2 }]

[run]
keep = 3
"""


@pytest.fixture(autouse=True)
def toys():
    """The recipes by name, registered for one test; the module stands for the notebook that defines them."""
    for (group, name), cls in TOYS.items():
        registry.register(group, name, cls)
    yield {name: cls for (_, name), cls in TOYS.items()}
    for group, name in TOYS:
        registry.unregister(group, name)


@pytest.fixture
def valid():
    """The text of a file that loads."""
    return VALID


@pytest.fixture
def write(tmp_path):
    """Writes a file `exp.toml` and gives its path."""

    def _write(text):
        path = tmp_path / "exp.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write
