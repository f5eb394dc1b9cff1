"""A backbone and a prior, as one generative model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import attrs
import torch
from torch import Tensor, nn

from hebm.compilation import compiled, with_samplers
from hebm.config.experiment import Experiment
from hebm.config.settings import RunSettings
from hebm.cuda_graphs import Graphed
from hebm.interfaces import Backbone, ImageSpec, PriorLearner, Request
from hebm.noise import BLOCK, derive_seed
from hebm.trained import TrainedModel, check_labels, finite

R = TypeVar("R")

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Model(nn.Module):
    """p(x) = ∫ p(x|T(u)) p(u) du.

    Arguments:
        backbone: gives T and p(x|z).
        prior: gives p(u).
    """

    def __init__(self, backbone: Backbone, prior: PriorLearner) -> None:
        super().__init__()
        self.backbone, self.prior = backbone, prior

    def sample(
        self,
        n: int,
        seed: int = 0,
        start: int = 0,
        request: Request = Request(),
        decode: str = "mean",
        batch_size: int = 8 * BLOCK,
        temperature: float = 1.0,
    ) -> Tensor:
        """Return n images `(n, C, H, W)` in [−1, 1], drawn in eval mode.

        Arguments:
            n: how many.
            seed: sample i is a function of (seed, i) alone, up to rounding that depends on the batch's size.
            start: number of the first sample.
            request: labels, chain lengths, the transition to stop after.
            decode: "mean" is E[x|z], "sample" a draw from p(x|z).
            batch_size: how many at a time.
            temperature: τ scales the u that the prior drew, so that z_i = μ_i(z_above) + τ σ_i(z_above) u_i.

        Raises:
            NonFiniteError: if a sample is not finite.
            ConfigError: for labels that the prior was not trained with, not n of them, or an unknown transition.
        """
        check_labels(self.prior, request.labels, n)
        model = TrainedModel(self.backbone, self.prior, seed=seed, request=request, rows=batch_size, decoding=decode)
        noise = model.noise("prior", start)
        draw = model.draw(n, noise)
        return finite(model.images(attrs.evolve(draw, u=temperature * draw.u), noise))


def build(experiment: Experiment, images: ImageSpec) -> Model:
    """Backbone and prior with initial weights derived from the experiment's seed.

    Arguments:
        experiment: says what to build.
        images: shape and classes of the data.
    """
    dtype = DTYPES[experiment.run.dtype]
    with seeded(experiment.seed, "backbone"):
        backbone = experiment.backbone.build(images).to(dtype)
    with seeded(experiment.seed, "prior"):
        prior = accelerated(experiment.prior, experiment.run).build(backbone).to(dtype)
    return Model(backbone, prior)


def accelerated(recipe: R, settings: RunSettings) -> R:
    """The recipe of a prior or a scheme with its samplers as `run.compile` and `run.cuda_graphs` ask for."""
    if settings.compile:
        recipe = compiled(recipe)
    return with_samplers(recipe, Graphed) if settings.cuda_graphs else recipe


@contextmanager
def seeded(seed: int, table: str) -> Iterator[None]:
    """Inside, the global generator is seeded from (seed, table), for module constructors; afterwards as before."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "init", table) >> 1)
        yield
