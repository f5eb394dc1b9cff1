"""A backbone and a prior, as one generative model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from hebm.compilation import compiled, with_samplers
from hebm.config.experiment import Experiment
from hebm.config.settings import RunSettings
from hebm.cuda_graphs import Graphed
from hebm.errors import ConfigError, NonFiniteError
from hebm.interfaces import Backbone, ImageSpec, PriorLearner, Request
from hebm.noise import BLOCK, Noise, derive_seed

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

    @torch.no_grad()
    def sample(
        self,
        n: int,
        seed: int = 0,
        start: int = 0,
        labels: Tensor | None = None,
        steps: int | None = None,
        decode: str = "mean",
        batch_size: int = 8 * BLOCK,
        temperature: float = 1.0,
    ) -> Tensor:
        """n images `(n, C, H, W)` in [−1, 1], in eval mode.

        Arguments:
            n: how many.
            seed: sample i is a function of (seed, i) alone, up to rounding that depends on the batch's size.
            start: number of the first sample.
            labels: class per sample `(n,)`, or attributes `(n, A)`: 1, 0, or −1 for one that may be either.
            steps: length of the chains, instead of the prior's own.
            decode: "mean" is E[x|z], "sample" a draw from p(x|z).
            batch_size: how many at a time.
            temperature: τ scales the u that the prior drew, so that z_i = μ_i(z_above) + τ σ_i(z_above) u_i.

        Raises:
            NonFiniteError: if a sample is not finite.
            ConfigError: for labels where the prior heeds none, or not n of them.
        """
        _check_labels(self.prior, labels, n)
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            backbone = self.backbone.folded()
            parts = [
                self._batch(
                    backbone, first, min(batch_size, n - first), seed, start, labels, steps, decode, temperature
                )
                for first in range(0, n, batch_size)
            ]
        finally:
            for module, training in modes:
                module.training = training
        return torch.cat(parts)

    def _batch(
        self,
        backbone: Backbone,
        first: int,
        rows: int,
        seed: int,
        start: int,
        labels: Tensor | None,
        steps: int | None,
        decode: str,
        temperature: float,
    ) -> Tensor:
        parameter = next(self.backbone.parameters())
        noise = Noise(seed, "sample", start=start + first, device=parameter.device, dtype=parameter.dtype)
        chosen = None if labels is None else labels[first : first + rows].to(parameter.device)
        draw = self.prior.sample(backbone, rows, noise.derive("prior"), Request(chosen, steps=steps))
        likelihood = backbone.likelihood(backbone.latents(temperature * draw.u, draw.context))
        images = likelihood.mean if decode == "mean" else likelihood.draw(noise.derive("decode"))
        bad = int((~images.flatten(1).isfinite().all(1)).sum())
        if bad:
            raise NonFiniteError(
                f"{bad} of {rows} samples are not finite: their chains diverged; lower the sampler's step size"
            )
        return images


def _check_labels(prior: PriorLearner, labels: Tensor | None, n: int) -> None:
    if labels is None:
        return
    if not prior.labelled:
        fix = "leave the labels out, or train a prior that is trained with labels (prior.type)"
        raise ConfigError(f"labels: this prior ({type(prior).__name__}) was not trained with labels; {fix}")
    if len(labels) != n:
        raise ConfigError(f"labels: {len(labels)} of them for {n} samples; give one per sample")


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
