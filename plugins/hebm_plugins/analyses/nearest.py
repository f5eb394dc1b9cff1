"""Whether draws are copies of training images: how near they are to these, next to how near test images are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from hebm.pixel_levels import from_pixels, to_pixels
from hebm.report.grids import save_grid
from hebm.report.numbers import percent, significant, with_deviation
from hebm_plugins.neighbours import Neighbours, nearest

QUANTILES = (0.1, 0.5)
"""Quantiles of the distances of test images, with which the distances of draws are compared."""

Space = Callable[[Tensor], Tensor]
"""Maps uint8 images `(B, C, H, W)` to points `(B, F)`."""


@attrs.frozen
class Closer:
    """How many draws are nearer to the training images than a quantile of test images.

    Arguments:
        quantile: q, the share of test images that are as near.
        share: p, of draws.
        error: √(p(1 − p)/N + q(1 − q)/M) for N draws and M test images, exact for large N and M where p = q.
    """

    quantile: float
    share: float
    error: float

    @property
    def suspicious(self) -> bool:
        """Whether more draws are near than test images, by more than two standard errors."""
        return self.share - self.quantile > 2 * self.error


@recipe
class Nearest(AnalysisRecipe):
    """Distance of each draw to its nearest training image, next to that of test images, and pictures of both.

    Every training image is compared. The share of draws that are nearer than a quantile q of test images is q for new
    images of the data's law. A larger share is a reason to look at the pictures: such draws are copies, or only
    typical.
    """

    samples: int = option(500, low=2, doc="N, number of draws; as many test images, if there are")
    space: str = option(
        "features",
        choices=("features", "pixels"),
        doc="where distances are measured: in the extractor's features, or in pixels from −1 to 1",
    )
    rows: int = option(8, low=1, doc="draws in a picture, one per row")
    neighbours: int = option(5, low=1, doc="nearest training images shown of each draw")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason for images that the extractor does not take, and for a data set without test images."""
        if len(evaluation.splits["test"]) < 2:
            return "its data has no test images to compare with"
        return evaluation.unsuited if self.space == "features" else None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Return the shares of draws that are nearer than test images, histograms, and draws with their neighbours."""
        evaluation = evaluation.measured_on(self.samples)
        space, test = self._space(evaluation), EvenSubset(evaluation.splits["test"], self.samples)
        pixels = {"draws": evaluation.pixels(PRIOR), "test images": to_pixels(_read(test, 0, len(test)))}
        points = torch.cat([_points(space, each, evaluation.settings.rows) for each in pixels.values()])
        train = evaluation.splits["train"]
        k = min(self.neighbours, len(train))
        found = nearest(points, _stream(evaluation, train, space), k).joined(evaluation.processes)
        n = len(pixels["draws"])
        draws, held_out = Neighbours(*(part[:n] for part in found)), Neighbours(*(part[n:] for part in found))
        shown = (
            self._picture(folder, "closest", _CLOSEST, pixels["draws"], draws, train, True),
            self._picture(folder, "first", _FIRST, pixels["draws"], draws, train, False),
            self._picture(folder, "closest-test", _TEST, pixels["test images"], held_out, train, True),
        )
        return self._section(evaluation, _distances(draws), _distances(held_out), shown, folder)

    def _space(self, evaluation: Evaluation) -> Space:
        if self.space == "pixels":
            return lambda pixels: from_pixels(pixels, torch.empty(0)).flatten(1)
        extractor = evaluation.extractor()
        return lambda pixels: extractor(pixels)["features"].cpu()

    def _picture(
        self, folder: Path, name: str, title: str, pixels: Tensor, found: Neighbours, train: Images, sort: bool
    ) -> Picture:
        order = found.squared[:, 0].argsort(stable=True) if sort else torch.arange(len(pixels))
        chosen = order[: self.rows]
        near = torch.stack([train.read(row) for row in found.points[chosen]])
        images = torch.cat([from_pixels(pixels[chosen], near)[:, None], near], dim=1)
        save_grid(images.flatten(0, 1), folder / f"{name}.png", images.shape[1])
        distances = ", ".join(significant(d) for d in _distances(found)[chosen].tolist())
        caption = f"Each row: the image, then the training images nearest to it. Distances to the first: {distances}."
        return Picture(f"{name}.png", title, caption, pixels=True)

    def _section(
        self, evaluation: Evaluation, draws: Tensor, test: Tensor, shown: tuple[Picture, ...], folder: Path
    ) -> Section:
        where = "pixels" if self.space == "pixels" else f"features of {evaluation.extractor().name}"
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
        table = Table("Draws that are as near to a training image", ("as the", "share of draws"), rows, caption)
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
            "Nearest training images", (_verdict(shares, ratio), _TEXT), (*shown, histogram), (table,), numbers
        )


def closer(draws: Tensor, test: Tensor, quantile: float) -> Closer:
    """Return the share of draws whose distance `(N,)` is at most a quantile of the distances `(M,)` of test images."""
    share = float((draws <= test.quantile(quantile)).double().mean())
    variance = share * (1 - share) / len(draws) + quantile * (1 - quantile) / len(test)
    return Closer(quantile, share, variance**0.5)


def _read(images: Images, start: int, rows: int) -> Tensor:
    return images.read(torch.arange(start, start + rows))


def _points(space: Space, pixels: Tensor, rows: int) -> Tensor:
    return torch.cat([space(pixels[start : start + rows]) for start in range(0, len(pixels), rows)])


def _stream(evaluation: Evaluation, images: Images, space: Space) -> Iterator[tuple[int, Tensor]]:
    """Yield this process's batches of a data set as points, each with the number of its first image."""
    for start, rows in evaluation.batches("images compared", len(images)):
        yield start, space(to_pixels(_read(images, start, rows)))


def _distances(found: Neighbours) -> Tensor:
    return found.squared[:, 0].sqrt()


def _ratio(above: Tensor, below: Tensor) -> float | None:
    return float(above / below) if below > 0 else None


_CLOSEST = "The draws that are nearest to a training image"
_FIRST = "The first draws, not chosen"
_TEST = "The test images that are nearest to a training image"
_TEXT = (
    "A draw that copies a training image lies much nearer to it than a test image does. Simple, smooth or typical "
    "images lie near to others too, so compare the draws in the pictures with what is nearest to them, and with the "
    "same of test images."
)


def _verdict(shares: list[Closer], ratio: float | None) -> str:
    tail = shares[0]
    found = (
        f"{with_deviation(tail.share, tail.error, SHARE)} of draws are as near to a training image as the nearest "
        f"{percent(tail.quantile)} of test images are"
    )
    said = (
        "more than of new images: look whether the draws in the pictures are copies"
        if any(each.suspicious for each in shares)
        else "no sign that training images are copied"
    )
    times = "" if ratio is None else f" The median distance of draws is {significant(ratio)} times that of test images."
    return f"{found}: {said}.{times}"
