"""What the report shows of a trained model, computed once from the live model and kept in the run's samples.

The images are the first ones that the evaluation measures: the i-th has the same derived noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.evaluate.evaluation import Evaluation, evaluating
from hebm.evaluate.references import EvenSubset
from hebm.interfaces import Backbone, Batch, Draw, PriorLearner, Request
from hebm.noise import BLOCK, Noise
from hebm.report.chain import Recorder, evenly, summary
from hebm.report.figure_data import ChainData, Figures
from hebm.report.grids import save_grid, save_strip
from hebm.training.phases import SchemeRecipe

_LARGE = 96


@attrs.frozen
class FigureSettings:
    """How much is shown.

    Arguments:
        draws: latents in a histogram.
        columns: images in a row of a grid, which is square; half as many for images larger than 96 pixels.
        chains: rows of the chain's strip.
        frames: its columns.
        rows: draws at a time, a multiple of the noise block and no fewer than a grid has.
    """

    draws: int = 512
    columns: int = 8
    chains: int = 6
    frames: int = 11
    rows: int = 2 * BLOCK


def collect_from(evaluation: Evaluation, samples: Path, settings: FigureSettings | None = None) -> Figures:
    """The figures of an evaluated model, on this process alone. See `collect`."""
    settings = settings or FigureSettings()
    images = EvenSubset(evaluation.images[evaluation.settings.split], settings.draws)
    batch = evaluation.batch(images, 0, len(images))
    noise = Noise(evaluation.seed, "sample", device=evaluation.device, dtype=batch.x.dtype)
    return collect(evaluation.backbone, evaluation.prior, evaluation.scheme, batch, noise, samples, settings)


def collect(
    backbone: Backbone,
    prior: PriorLearner,
    scheme: SchemeRecipe,
    batch: Batch,
    noise: Noise,
    samples: Path,
    settings: FigureSettings | None = None,
) -> Figures:
    """Compute the figures, write their images and `figures.json` into `samples`, and return them.

    Arguments:
        backbone: trained; used in eval mode, put back as it was.
        prior: trained, treated alike.
        scheme: how latents of given images are inferred.
        batch: images of one split, as many as a histogram has draws.
        noise: draws of a kind come from `noise.derive(kind)`.
        samples: the folder.
        settings: how much is shown.

    Raises `CheckpointError` if the folder cannot be written.
    """
    with evaluating(backbone, prior):
        generator = backbone.folded()
        return _Collector(
            backbone, generator, prior, scheme, batch, noise, samples, settings or FigureSettings()
        ).collect()


@attrs.frozen(eq=False)
class _Collector:
    """The arguments of `collect`, shared by its parts, and the backbone's folded copy."""

    backbone: Backbone
    generator: Backbone
    prior: PriorLearner
    scheme: SchemeRecipe
    batch: Batch
    noise: Noise
    samples: Path
    settings: FigureSettings

    def collect(self) -> Figures:
        images = self._references()
        first, chain = self._chain() if self.prior.base is not None else (None, None)
        drawn = {"gaussian": self._draw("gaussian", 0, self.settings.rows)}
        drawn["prior"] = first or drawn["gaussian"]
        for kind, draw in drawn.items():
            images[kind] = self._save(kind, self._decode(draw.u[: self._tiles], draw.context))
        if chain is not None:
            images["chain"] = "chain.png"
        figures = Figures(images, chain, self._tilts())
        figures.write(self.samples)
        return figures

    # ------------------------------------------------------------ grids

    @property
    def _columns(self) -> int:
        return self.settings.columns // (2 if max(self.batch.x.shape[2:]) > _LARGE else 1)

    @property
    def _tiles(self) -> int:
        return self._columns**2

    def _references(self) -> dict[str, str]:
        index = torch.tensor(evenly(len(self.batch.x), self._tiles), device=self.batch.x.device)
        few = _rows(self.batch, index)
        posterior = self.scheme.posterior(self.backbone, self.prior, few, self.noise.derive("reconstruction"))
        mean = self.backbone.likelihood(posterior.latents).mean
        return {"data": self._save("data", few.x), "reconstruction": self._save("reconstruction", mean)}

    def _decode(self, u: Tensor, context: Tensor | None) -> Tensor:
        context = None if context is None else context[: len(u)]
        mean: Tensor = self.generator.likelihood(self.generator.latents(u, context)).mean
        return mean

    def _save(self, kind: str, images: Tensor) -> str:
        save_grid(images, self.samples / f"{kind}.png", self._columns)
        return f"{kind}.png"

    def _draw(self, kind: str, start: int, rows: int) -> Draw:
        prior = self.prior
        while kind == "gaussian" and prior.base is not None:
            prior = prior.base
        return prior.sample(self.generator, rows, self.noise.derive(kind).at(start))

    # ------------------------------------------------------------ the chain

    def _chain(self) -> tuple[Draw, ChainData | None]:
        """The first draws of the prior and what their chain did; None for a prior that runs none."""
        recorder = Recorder(self.settings.frames - 2)
        rows, noise = self.settings.rows, self.noise.derive("prior")
        draw = self.prior.sample(self.generator, rows, noise, Request(observe=recorder))
        if not recorder.length:
            return draw, None
        start = self.prior.sample(self.generator, rows, self.noise.derive("prior"), Request(steps=0))
        states = recorder.states(start.u, draw.u)
        tilts = [f for f in (self._f(Draw(u, draw.context)) for _, u in states) if f is not None]
        chosen = [states[i] for i in evenly(len(states), self.settings.frames)]
        save_strip(
            [self._decode(u[: self.settings.chains], draw.context) for _, u in chosen], self.samples / "chain.png"
        )
        return draw, attrs.evolve(summary(recorder, states, tilts), frames=[step for step, _ in chosen])

    # ------------------------------------------------------------ log tilts

    def _f(self, draw: Draw) -> Tensor | None:
        """The log tilt f = Σ_e f_e of draws, `(B,)`; None for a prior without a tilt."""
        try:
            return self.prior.tilt(self.generator.latents(draw.u, draw.context)).sum(1)
        except NotImplementedError:
            return None

    def _tilts(self) -> dict[str, list[float | None]]:
        if self.prior.base is None:
            return {}
        tilts = {
            "posterior": [self._f(draw) for draw in self._posterior()],
            "prior": [self._f(draw) for draw in self._draws("prior")],
            "gaussian": [self._f(draw) for draw in self._draws("gaussian")],
        }
        found = {kind: [part for part in parts if part is not None] for kind, parts in tilts.items()}
        return {kind: torch.cat(parts).tolist() for kind, parts in found.items() if parts}

    def _draws(self, kind: str) -> Iterator[Draw]:
        for start in range(0, self.settings.draws, self.settings.rows):
            yield self._draw(kind, start, min(self.settings.rows, self.settings.draws - start))

    def _posterior(self) -> Iterator[Draw]:
        noise = self.noise.derive("posterior")
        for start in range(0, len(self.batch.x), self.settings.rows):
            few = _rows(self.batch, slice(start, start + self.settings.rows))
            posterior = self.scheme.posterior(self.backbone, self.prior, few, noise.at(start))
            yield Draw(posterior.latents.u, posterior.latents.context)


def _rows(batch: Batch, index: Tensor | slice) -> Batch:
    labels = None if batch.labels is None else batch.labels[index]
    return Batch(batch.x[index], batch.target[index], labels, batch.index[index])
