"""Small recipes of every kind.

In a module of their own name: annotations are resolved in the module that a class names, and there are several
`conftest`s.
"""

from __future__ import annotations

from typing import Literal

from hebm.config.recipes import option, recipe
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.errors import ConfigError
from hebm.evaluation.metric import MetricRecipe
from hebm.interfaces import BackboneRecipe, EnergyRecipe, PriorRecipe, Sampler
from hebm.training.phases import SchemeRecipe


@recipe
class Walk(Sampler):
    """A sampler with two options."""

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
    """A prior whose default sampler differs from a default Walk."""

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
    """A data set with four options."""

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
    limit: float | None = option(None, above=0, doc="of something")


@recipe
class Plan(SchemeRecipe):
    """A scheme with nested settings."""

    backbone: Optimiser = option(factory=lambda: Optimiser(steps=99, limit=1.0), doc="phase 1")
    stops: tuple[tuple[int, ...], ...] = option((), doc="lists of lists")

    def phases(self, backbone, prior):
        raise NotImplementedError

    def posterior(self, backbone, prior, batch, noise):
        raise NotImplementedError


@recipe
class Count(MetricRecipe):
    """A metric with one option."""

    of: int = option(1, low=1, doc="what")

    def compute(self, evaluation):
        return {}
