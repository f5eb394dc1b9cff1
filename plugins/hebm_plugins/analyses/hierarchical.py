"""Hierarchical sampling: what each part of the hierarchy decides, the rest being held."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.analyse.recipe import AnalysisRecipe
from hebm.analyse.section import Picture, Section, Table, write_csv
from hebm.config.recipe import option, recipe
from hebm.errors import ConfigError
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.kinds import PRIOR
from hebm.interfaces import Draw
from hebm.report.grids import save_grid
from hebm.report.numbers import percent
from hebm_plugins.analyses.drawing import repeated

_MOST_SETS = 6


@recipe
class Hierarchical(AnalysisRecipe):
    """Layers drawn anew by the prior while all others are held; a grid per set of layers.

    A row is one held draw of the prior, its first image, then the same with the set drawn anew.
    """

    sets: tuple[tuple[int, ...], ...] = option(
        (), low=0, doc="layers to draw anew, 0 = top; empty: each alone, or of more than 6 layers 6 neighbouring groups"
    )
    rows: int = option(8, low=1, doc="held draws")
    columns: int = option(10, low=2, doc="images in a row, the held draw included")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """One layer has nothing to hold."""
        if len(evaluation.model.backbone.layout) < 2:
            return "there is only one layer of latents: nothing to hold"
        return None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """A grid per set, and the share of the pixels' variance that it decides.

        Raises `ConfigError` for a layer that there is not.
        """
        sets = self._sets(len(evaluation.model.backbone.layout))
        held = evaluation.model.draw(self.rows, evaluation.noise(PRIOR))
        pictures, shares = [], {}
        for layers in sets:
            drawn = evaluation.model.images(self._drawn(evaluation, held, layers))
            images = torch.unflatten(drawn, 0, (self.rows, -1))
            name = "layers-" + "-".join(map(str, layers))
            save_grid(images.flatten(0, 1), folder / f"{name}.png", self.columns)
            pictures.append(Picture(f"{name}.png", _title(layers), "", pixels=True))
            shares[_title(layers)] = _share(images)
        header = ("drawn anew", "share of the pixels' variance")
        write_csv(folder / "shares.csv", header, [(title, share) for title, share in shares.items()])
        rows = tuple((title, percent(share)) for title, share in shares.items())
        caption = "1 is where the held layers decide nothing; the shares of several sets need not sum to 1."
        return Section(
            "Hierarchical sampling",
            (_TEXT.format(count=len(evaluation.model.backbone.layout)),),
            tuple(pictures),
            (Table("What a set decides", header, rows, caption),),
            {"variance_share": shares},
        )

    def _sets(self, count: int) -> tuple[tuple[int, ...], ...]:
        beyond = sorted({layer for layers in self.sets for layer in layers if layer >= count})
        if beyond:
            raise ConfigError(f"hierarchical.sets: there is no layer {beyond[0]}; allowed are 0 (top) to {count - 1}")
        if self.sets:
            return self.sets
        groups = torch.arange(count).tensor_split(min(count, _MOST_SETS))
        return tuple(tuple(group.tolist()) for group in groups)

    def _drawn(self, evaluation: Evaluation, held: Draw, layers: tuple[int, ...]) -> Draw:
        """Return `rows · columns` draws, the first of each row being the given one itself, all with its context."""
        layout, times = evaluation.model.backbone.layout, self.columns - 1
        fixed = layout.fix(held.u.repeat_interleave(times, 0), set(range(len(layout))) - set(layers))
        noise = evaluation.noise("hierarchical").derive(*layers)
        given = attrs.evolve(evaluation.model.request, context=repeated(held.context, times), fixed=fixed)
        redrawn = evaluation.model.draw(self.rows * times, noise, given).u
        u = torch.cat([held.u.unsqueeze(1), torch.unflatten(redrawn, 0, (self.rows, -1))], dim=1).flatten(0, 1)
        return Draw(u, repeated(held.context, self.columns))


_TEXT = (
    "Of the {count} layers of latents (0 is the top) all but a set are held at the values of a draw of the prior, and "
    "the set is drawn anew by the prior given them. Each row is one held draw: its own image first, then the same with "
    "the set drawn anew. What stays the same along a row is decided by the layers that are held."
)


def _title(layers: tuple[int, ...]) -> str:
    if len(layers) == 1:
        return f"layer {layers[0]} anew"
    if layers == tuple(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]} anew"
    return f"layers {', '.join(map(str, layers))} anew"


def _share(images: Tensor) -> float:
    """Variance within rows over variance over all, of images drawn anew: `(rows, columns, C, H, W)` less the first."""
    anew = images[:, 1:].double()
    whole = anew.flatten(0, 1).var(0).sum()
    return float(anew.var(1).mean(0).sum() / whole) if anew.shape[1] > 1 and whole > 0 else float("nan")
