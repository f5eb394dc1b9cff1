"""Small recipes registered by hand, and a file that uses them all."""

from __future__ import annotations

from typing import Literal

import pytest

from hebm import registry
from hebm.config.recipe import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import (
    BackboneRecipe,
    DatasetRecipe,
    EnergyRecipe,
    MetricRecipe,
    PriorRecipe,
    Sampler,
    SchemeRecipe,
)


@recipe
class Walk(Sampler):
    """A sampler."""

    steps: int = option(20, low=1, doc="how many")
    step_size: float = option(0.1, above=0, doc="h")

    def init(self, density, u):
        raise NotImplementedError

    def step(self, density, state, noise):
        raise NotImplementedError


@recipe
class Jump(Sampler):
    """Another sampler, with a key that Walk has not."""

    steps: int = option(5, doc="how many")
    reach: float = option(1.0, doc="how far")

    def init(self, density, u):
        raise NotImplementedError

    def step(self, density, state, noise):
        raise NotImplementedError


@recipe
class Net(EnergyRecipe):
    """An energy with every kind of leaf."""

    width: int | tuple[int, ...] = option(64, low=1, doc="hidden units")
    norm: Literal["none", "spectral"] = option("none", doc="normalisation")
    rate: float | None = option(None, low=0, high=1, doc="dropout")
    pair: tuple[int, float] = option((1, 0.5), doc="two numbers")
    flag: bool = option(False, doc="on or off")

    def build(self, layout, logits=1, levels=1):
        raise NotImplementedError


@recipe
class Tilted(PriorRecipe):
    """A prior whose default sampler is no default Walk."""

    energy: EnergyRecipe = option(factory=Net, doc="f")
    sampler: Sampler = option(factory=lambda: Walk(steps=7, step_size=0.5), doc="the chain")
    base: PriorRecipe | None = option(None, doc="what is tilted")

    def build(self, backbone):
        raise NotImplementedError


@recipe
class Generator(BackboneRecipe):
    """A backbone with a check across keys."""

    z_dims: tuple[int, ...] = option((4, 8), low=1, doc="top first")
    heads: int = option(1, low=1, doc="at most as many as layers")

    def __attrs_post_init__(self):
        if self.heads > len(self.z_dims):
            raise ConfigError(f"heads = {self.heads} for {len(self.z_dims)} layers")

    def build(self, images):
        raise NotImplementedError


@recipe
class Pictures(DatasetRecipe):
    """Data with a required key."""

    root: str = option(doc="the folder")
    batch_size: int = option(32, low=1, doc="images per step")
    flip: bool = option(False, doc="mirror")
    binarize: str = option("off", doc="binarise", choices=("off", "target", "both"))
    workers: int = option(0, doc="background processes", low=0)

    def load(self, split):
        raise NotImplementedError


@recipe
class Dots(DatasetRecipe):
    """Data without."""

    batch_size: int = option(32, low=1, doc="images per step")
    flip: bool = option(False, doc="mirror")
    binarize: str = option("off", doc="binarise", choices=("off", "target", "both"))
    workers: int = option(0, doc="background processes", low=0)
    dots: int = option(3, doc="of them")

    def load(self, split):
        raise NotImplementedError


@recipe
class Optimiser:
    """A settings class: a table without type."""

    steps: int = option(10, low=0, doc="how many")
    rate: float = option(1e-3, above=0, doc="learning rate")


@recipe
class Plan(SchemeRecipe):
    """A scheme with nested settings."""

    backbone: Optimiser = option(factory=lambda: Optimiser(steps=99), doc="phase 1")
    stops: tuple[tuple[int, ...], ...] = option((), doc="lists of lists")

    def phases(self, backbone, prior):
        raise NotImplementedError

    def posterior(self, backbone, prior, batch, noise):
        raise NotImplementedError


@recipe
class Count(MetricRecipe):
    """A metric."""

    of: int = option(1, low=1, doc="what")

    def compute(self, evaluation):
        return {}


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
