"""Check whether draws are copies of training images, by comparing their distances with those of test images."""

from __future__ import annotations

from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.plots import save_histograms
from hebm.analysis.section import Picture, Section, Table, write_csv
from hebm.config.recipes import option, recipe
from hebm.data.images import Images
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import PRIOR
from hebm.evaluation.metric import SHARE
from hebm.evaluation.references import EvenSubset
from hebm.report.grids import save_grid
from hebm.report.numbers import percent, significant, with_deviation
from hebm_plugins.nearest_images import (
    COPIES,
    Closer,
    Space,
    chosen,
    closer,
    distances,
    nearest_of,
    read,
    with_neighbours,
)
from hebm_plugins.neighbours import Neighbours

QUANTILES = (0.1, 0.5)
"""Quantiles of the distances of test images, which serve as thresholds for the distances of draws."""


@recipe
class Nearest(AnalysisRecipe):
    """Distance of each draw to its nearest training image, compared with that of test images, and pictures of both.

    All training images are searched. For new images from the distribution of the data, the share that is nearer than
    the quantile q of test images is q. If the share of draws is larger, look at the pictures: such draws are copies, or
    only typical images.
    """

    samples: int = option(500, low=2, doc="N, number of draws, and largest number of test images")
    space: str = option(
        "features",
        choices=("features", "pixels"),
        doc="space of the distances: features of the extractor, or pixels from −1 to 1",
    )
    rows: int = option(8, low=1, doc="draws in a picture, one per row")
    neighbours: int = option(5, low=1, doc="number of nearest training images to show for each draw")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason for images that the extractor does not take, and for a data set without test images."""
        if len(evaluation.splits["test"]) < 2:
            return "its data has no test images to compare with"
        return evaluation.unsuited if self.space == "features" else None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Return the shares of draws that are nearer than test images, histograms, and draws with their neighbours."""
        evaluation = evaluation.measured_on(self.samples)
        space = Space(None if self.space == "pixels" else evaluation.extractor())
        rows, train = evaluation.rows, evaluation.splits["train"]
        test = EvenSubset(evaluation.splits["test"], self.samples)
        draws, held_out = evaluation.pixels(PRIOR), read(test, 0, len(test))
        points = {
            "draws": space.points(draws, rows),
            "test": space.points(held_out, rows),
        }
        found = nearest_of(evaluation, points, space, min(self.neighbours, len(train)))
        shown = (
            self._picture(folder, "closest", _CLOSEST, draws, found["draws"], train, True),
            self._picture(folder, "first", _FIRST, draws, found["draws"], train, False),
            self._picture(folder, "closest-test", _TEST, held_out, found["test"], train, True),
        )
        return self._section(evaluation, space, distances(found["draws"]), distances(found["test"]), shown, folder)

    def _picture(
        self, folder: Path, name: str, title: str, pixels: Tensor, found: Neighbours, train: Images, sort: bool
    ) -> Picture:
        order = found.squared[:, 0].argsort(stable=True) if sort else torch.arange(len(pixels))
        few = order[: self.rows]
        images = with_neighbours(pixels[few], chosen(found, few), train)
        save_grid(images.flatten(0, 1), folder / f"{name}.png", images.shape[1])
        told = ", ".join(significant(d) for d in distances(found)[few].tolist())
        caption = f"Each row: the image, then the training images nearest to it. Distances to the nearest: {told}."
        return Picture(f"{name}.png", title, caption, pixels=True)

    def _section(
        self,
        evaluation: Evaluation,
        space: Space,
        draws: Tensor,
        test: Tensor,
        shown: tuple[Picture, ...],
        folder: Path,
    ) -> Section:
        where = space.name
        shares, ratio = [closer(draws, test, q) for q in QUANTILES], _ratio(draws.median(), test.median())
        save_histograms(folder / "distances.png", {"": {"draws": draws, "test images": test}}, f"distance in {where}")
        write_csv(folder / "draws.csv", ("draw", "distance"), list(enumerate(draws.tolist())))
        rows = tuple(
            (f"nearest {percent(each.quantile)} of test images", with_deviation(each.share, each.error, SHARE))
            for each in shares
        )
        caption = (
            f"N = {len(draws)}, {len(test)} test images, {len(evaluation.splits['train'])} training images; distances "
            f"in {where}. ±: standard error over draws and test images."
        )
        table = Table(
            "Share of draws that are as near to a training image", ("as the", "share of draws"), rows, caption
        )
        histogram = Picture("distances.png", "Distance to the nearest training image")
        numbers = {
            "n": len(draws),
            "n_test": len(test),
            "space": where,
            "median": {"draws": float(draws.median()), "test": float(test.median())},
            "ratio_of_medians": ratio,
            "closer": [attrs.asdict(each) for each in shares],
        }
        return Section(
            "Nearest training images",
            (_verdict(shares, ratio), f"{COPIES}. The last picture shows the same for test images."),
            (*shown, histogram),
            (table,),
            numbers,
        )


def _ratio(above: Tensor, below: Tensor) -> float | None:
    return float(above / below) if below > 0 else None


_CLOSEST = "The draws that are nearest to a training image"
_FIRST = "The first draws, without selection"
_TEST = "The test images that are nearest to a training image"


def _verdict(shares: list[Closer], ratio: float | None) -> str:
    tail = shares[0]
    found = (
        f"{with_deviation(tail.share, tail.error, SHARE)} of draws are as near to a training image as the nearest "
        f"{percent(tail.quantile)} of test images are"
    )
    said = (
        "more than expected of new images; check in the pictures whether these draws are copies"
        if any(each.suspicious for each in shares)
        else "no sign that training images are copied"
    )
    times = "" if ratio is None else f" The median distance of draws is {significant(ratio)} times that of test images."
    return f"{found}: {said}.{times}"
