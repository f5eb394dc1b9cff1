"""Hierarchical sampling: redraw some layers with all others fixed, to see which features they determine."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import PRIOR
from hebm.interfaces import Draw
from hebm.report.grids import save_grid
from hebm.report.numbers import percent
from hebm_plugins.analyses.drawing import repeated

_MOST_SETS = 6


@recipe
class Hierarchical(AnalysisRecipe):
    """Redraw a set of layers by the prior with all others fixed; one grid of images per set.

    Each row starts with the image of a draw of the prior. The other images show the same draw with the set redrawn.
    """

    sets: tuple[tuple[int, ...], ...] = option(
        (),
        low=0,
        doc="sets of layers to redraw, 0 = top; by default each layer, or 6 groups of adjacent layers",
    )
    rows: int = option(8, low=1, doc="draws of the prior, one per row")
    columns: int = option(10, low=2, doc="images in a row, the draw itself included")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason if there is only one layer: none would be fixed."""
        if len(evaluation.model.backbone.layout) < 2:
            return "its backbone has only one layer, so no other layer can be fixed"
        return None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Draw a grid per set, and estimate the share of the variance of pixels that is due to the set.

        Raises `ConfigError` for a layer that does not exist.
        """
        sets = self._sets(len(evaluation.model.backbone.layout))
        first = evaluation.model.draw(self.rows, evaluation.noise(PRIOR))
        pictures, shares = [], {}
        for layers in sets:
            drawn = evaluation.model.images(self._drawn(evaluation, first, layers))
            images = torch.unflatten(drawn, 0, (self.rows, -1))
            name = "layers-" + "-".join(map(str, layers))
            save_grid(images.flatten(0, 1), folder / f"{name}.png", self.columns)
            pictures.append(Picture(f"{name}.png", _title(layers), "", pixels=True))
            shares[_title(layers)] = _share(images)
        header = ("redrawn", "share of the pixels' variance")
        write_csv(folder / "shares.csv", header, [(title, share) for title, share in shares.items()])
        rows = tuple((title, percent(share)) for title, share in shares.items())
        caption = "A share of 1 means that the fixed layers have no effect. Shares of several sets need not sum to 1."
        return Section(
            "Hierarchical sampling",
            (_TEXT.format(count=len(evaluation.model.backbone.layout)),),
            tuple(pictures),
            (Table("Variance due to a set", header, rows, caption),),
            {"variance_share": shares},
        )

    def _sets(self, count: int) -> tuple[tuple[int, ...], ...]:
        beyond = sorted({layer for layers in self.sets for layer in layers if layer >= count})
        if beyond:
            raise ConfigError(
                f"hierarchical.sets: layer {beyond[0]} does not exist; allowed are 0 (top) to {count - 1}"
            )
        if self.sets:
            return self.sets
        groups = torch.arange(count).tensor_split(min(count, _MOST_SETS))
        return tuple(tuple(group.tolist()) for group in groups)

    def _drawn(self, evaluation: Evaluation, first: Draw, layers: tuple[int, ...]) -> Draw:
        """Return `rows · columns` draws. Each row starts with a draw of `first`, whose context the whole row has."""
        layout, times = evaluation.model.backbone.layout, self.columns - 1
        fixed = layout.fix(first.u.repeat_interleave(times, 0), set(range(len(layout))) - set(layers))
        noise = evaluation.noise("hierarchical").derive(*layers)
        given = attrs.evolve(evaluation.model.request, context=repeated(first.context, times), fixed=fixed)
        redrawn = evaluation.model.draw(self.rows * times, noise, given).u
        u = torch.cat([first.u.unsqueeze(1), torch.unflatten(redrawn, 0, (self.rows, -1))], dim=1).flatten(0, 1)
        return Draw(u, repeated(first.context, self.columns))


_TEXT = (
    "All layers except one set are fixed at the values of a draw of the prior, which redraws the set given the others. "
    "The backbone has {count} layers of latents, and layer 0 is the top. Each row starts with the image of the draw; "
    "the set is redrawn in the other images. The fixed layers determine what stays the same along a row."
)


def _title(layers: tuple[int, ...]) -> str:
    if len(layers) == 1:
        return f"layer {layers[0]} redrawn"
    if layers == tuple(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]} redrawn"
    return f"layers {', '.join(map(str, layers))} redrawn"


def _share(images: Tensor) -> float:
    """Return (variance within rows) / (total variance) of the redrawn images, from `(rows, columns, C, H, W)`."""
    redrawn = images[:, 1:].double()
    whole = redrawn.flatten(0, 1).var(0).sum()
    return float(redrawn.var(1).mean(0).sum() / whole) if redrawn.shape[1] > 1 and whole > 0 else float("nan")
