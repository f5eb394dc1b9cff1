"""Compute the plots and grids of a run's page from the live model, and write them into the run's samples.

The images are the first ones of the evaluation, drawn with the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs
import torch
from torch import Tensor

from hebm.draws import Draw
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.illustration import Illustration
from hebm.evaluation.kinds import DATA, GAUSSIAN, PRIOR, RECONSTRUCTION
from hebm.evaluation.references import EvenSubset
from hebm.interfaces import Batch
from hebm.labelled import takes_labels
from hebm.noise import BLOCK
from hebm.report.chain import Recorder, evenly, summary
from hebm.report.grids import save_grid, save_strip
from hebm.report.plot_data import BY_CLASS, ChainData, Plots, Shown
from hebm.single_layer_energies import single_layer_energies
from hebm.tilts import Tilt
from hebm.trained import TrainedModel

_LARGE = 96
_OF_METRIC = "metric-"
"""Prefix of the files of pictures that metrics show."""
_MOST_CLASSES = 20


@attrs.frozen
class PlotSettings:
    """Sizes of plots and grids.

    Arguments:
        draws: number of latents in a histogram.
        columns: number of rows and columns of a grid; half of it for images larger than 96 pixels.
        chains: number of rows in the strip of chains.
        frames: number of columns in the strip of chains.
        rows: draws per batch, a multiple of the noise block and at least the size of a grid.
    """

    draws: int = 512
    columns: int = 8
    chains: int = 6
    frames: int = 11
    rows: int = 2 * BLOCK


def collect_from(evaluation: Evaluation, samples: Path, settings: PlotSettings | None = None) -> Plots:
    """Compute the plots of an evaluated model on this process alone (see `collect`)."""
    settings = settings or PlotSettings()
    images = EvenSubset(evaluation.splits[evaluation.settings.split], settings.draws)
    model = evaluation.model.changed(decoding="mean")
    batch = evaluation.batch(images, 0, len(images))
    return collect(model, batch, samples, settings, images.classes, evaluation.illustrations)


def collect(
    model: TrainedModel,
    batch: Batch,
    samples: Path,
    settings: PlotSettings | None = None,
    classes: Sequence[str] = (),
    illustrations: Mapping[str, Illustration] = MappingProxyType({}),
) -> Plots:
    """Compute the plots, write their images and `plots.json` into `samples`, and return them.

    Arguments:
        model: the trained model.
        batch: images of one split, one for each draw of a histogram.
        samples: the folder of samples.
        settings: sizes of plots and grids.
        classes: names of the images' classes; a prior that is trained with labels draws a row of each.
        illustrations: illustrations of metrics, by name.

    Raises `CheckpointError` if the folder cannot be written.
    """
    settings = settings or PlotSettings()
    return _Collector(model.changed(rows=settings.rows), batch, samples, settings, classes, illustrations).collect()


@attrs.frozen(eq=False)
class _Collector:
    """The arguments of `collect`, shared by its parts."""

    model: TrainedModel
    batch: Batch
    samples: Path
    settings: PlotSettings
    classes: Sequence[str]
    illustrations: Mapping[str, Illustration]

    def collect(self) -> Plots:
        images = self._references()
        drawn, chain = {GAUSSIAN: self._draw(GAUSSIAN, 0, self.settings.rows)}, None
        drawn[PRIOR] = drawn[GAUSSIAN]
        if self._learned:
            drawn[PRIOR], chain = self._chain()
        for kind, draw in drawn.items():
            images[kind] = self._save(kind, self.model.images(draw.rows(slice(self._tiles))))
        if chain is not None:
            images["chain"] = "chain.png"
        classes = tuple(self.classes[:_MOST_CLASSES]) if takes_labels(self.model.prior) else ()
        if classes:
            images[BY_CLASS] = self._save(BY_CLASS, self._of_classes(len(classes)))
        layers = single_layer_energies(self.model.prior, self.model.backbone.layout)
        plots = Plots(images, chain, self._tilts(), layers, classes, self._shown())
        plots.write(self.samples)
        return plots

    @property
    def _learned(self) -> bool:
        return self.model.prior.root is not None

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
        mean = self.model.reconstructed(few, self.model.noise(RECONSTRUCTION))
        return {DATA: self._save(DATA, few.x), RECONSTRUCTION: self._save(RECONSTRUCTION, mean)}

    def _save(self, kind: str, images: Tensor) -> str:
        save_grid(images, self.samples / f"{kind}.png", self._columns)
        return f"{kind}.png"

    def _shown(self) -> tuple[Shown, ...]:
        shown = []
        for name, each in self.illustrations.items():
            save_grid(each.images, self.samples / f"{_OF_METRIC}{name}.png", each.columns)
            shown.append(Shown(f"{_OF_METRIC}{name}.png", each.title, each.caption))
        return tuple(shown)

    def _draw(self, kind: str, start: int, rows: int) -> Draw:
        noise = self.model.noise(kind, start)
        if kind == PRIOR and self._learned:
            return self.model.draw(rows, noise)
        return self.model.draw_root(rows, noise)

    def _of_classes(self, count: int) -> Tensor:
        """Return a row of draws of each of the first classes, with the noise of the prior's first draws."""
        labels = torch.arange(count, device=self.batch.x.device).repeat_interleave(self._columns)
        request = attrs.evolve(self.model.request, labels=labels)
        return self.model.images(self.model.draw(len(labels), self.model.noise(PRIOR), request))

    # ------------------------------------------------------------ the chain

    def _chain(self) -> tuple[Draw, ChainData | None]:
        """Return the first draws of the prior and the data of their chains; None for a prior without chains."""
        recorder = Recorder(self.model.chain_lengths, self.settings.frames - 2)
        watched = attrs.evolve(self.model.request, observe=recorder)
        found = dict(self.model.walk(self.settings.rows, self.model.noise(PRIOR), watched))
        names, end = list(found), found[next(reversed(found))]
        if not recorder.trace.values:
            return end, None
        start = found[names[names.index(next(iter(self.model.chain_lengths))) - 1]]
        states = recorder.states(start.u, end.u)
        frames = [self.model.images(Draw(u, end.context).rows(slice(self.settings.chains))) for _, u in states]
        save_strip(frames, self.samples / "chain.png")
        tilt = self.model.tilt
        tilts = [] if tilt is None else [self._f(tilt, Draw(u, end.context)) for _, u in states]
        return end, summary(recorder, states, tilts)

    # ------------------------------------------------------------ log tilts

    def _f(self, tilt: Tilt, draw: Draw) -> Tensor:
        """Return the log tilt f = Σ_e f_e of draws, `(B,)`."""
        return self.model.of_latents(draw, lambda latents: tilt.at(self.model.generator, latents)).sum(1)

    def _tilts(self) -> dict[str, list[float | None]]:
        tilt = self.model.tilt
        if tilt is None:
            return {}
        kinds = {"posterior": self._posterior(), PRIOR: self._draws(PRIOR), GAUSSIAN: self._draws(GAUSSIAN)}
        return {kind: torch.cat([self._f(tilt, draw) for draw in draws]).tolist() for kind, draws in kinds.items()}

    def _draws(self, kind: str) -> Iterator[Draw]:
        for few in self.model.batches(self.settings.draws):
            yield self._draw(kind, few.start, few.stop - few.start)

    def _posterior(self) -> Iterator[Draw]:
        noise = self.model.noise("posterior")
        for few in self.model.batches(len(self.batch.x)):
            latents = self.model.infer(_rows(self.batch, few), noise.at(few.start)).latents
            yield Draw(latents.u, latents.context)


def _rows(batch: Batch, index: Tensor | slice) -> Batch:
    labels = None if batch.labels is None else batch.labels[index]
    return Batch(batch.x[index], batch.target[index], labels, batch.index[index])
