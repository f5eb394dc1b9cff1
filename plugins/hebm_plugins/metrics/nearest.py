"""Whether images copy training images, as a number and as pictures (`hebm_plugins.nearest_images`)."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.illustration import Illustration
from hebm.evaluation.kinds import KINDS, PRIOR
from hebm.evaluation.metric import SHARE, Measurement, MetricRecipe, Scalar
from hebm.evaluation.plan import EvaluationPlan
from hebm.evaluation.references import EvenSubset
from hebm.noise import BLOCK
from hebm_plugins.nearest_images import COPIES, Space, chosen, closer, distances, nearest_of, read, with_neighbours
from hebm_plugins.neighbours import Neighbours

_COPIES = "more than new images of the data would be: look whether the draws in the pictures are copies"


@recipe
class NearestImages(MetricRecipe):
    """(1/N) Σ_i 1[d_i ≤ t_q]: the share of draws that are as near to a training image as the nearest test images are.

    d_i is the distance of draw i to its nearest training image, and t_q the quantile q of the same distances of test
    images. The share is q for new images from the data's distribution. If it is larger, look at the pictures on the
    page. Distances are in the features of the first extractor, and all training images are compared.

    Example:
        >>> NearestImages(samples=500).quantile
        0.1
    """

    samples: int = option(1000, low=2, doc="N, number of draws, and of test images if there are as many")
    quantile: float = option(0.1, above=0, high=0.5, doc="q, quantile of the distances of test images", unit=SHARE)
    rows: int = option(6, low=1, doc="draws in the picture, one per row")
    neighbours: int = option(5, low=1, doc="nearest training images shown of each draw")

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the first extractor. Raises `ConfigError` for a data set without test images."""
        plan.extractor()
        if len(plan.images["test"]) < 2:
            raise ConfigError(
                "evaluate.metrics: nearest compares draws with test images, and the data set has fewer than two; leave "
                "it out, or hold out a part of the images"
            )
        return []

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `nearest-share` and `nearest-distance`, and show the draws that are nearest to training images."""
        space, kind = Space(evaluation.extractor()), PRIOR if PRIOR in evaluation.kinds else evaluation.kinds[-1]
        test = EvenSubset(evaluation.splits["test"], self.samples)
        points = {
            "draws": evaluation.features(kind)[: self.samples],
            "test": space.points(read(test, 0, len(test)), evaluation.rows),
        }
        found = nearest_of(evaluation, points, space, min(self.neighbours, len(evaluation.splits["train"])))
        if evaluation.processes.rank == 0:
            self._show(evaluation, kind, found["draws"])
        return self._measurements(evaluation, kind, distances(found["draws"]), distances(found["test"]))

    def _measurements(self, evaluation: Evaluation, kind: str, draws: Tensor, test: Tensor) -> list[Measurement]:
        shared: dict[str, Scalar] = {
            "extractor": evaluation.extractor().name,
            "draws": len(draws),
            "test_images": len(test),
        }
        share, title = closer(draws, test, self.quantile), "median distance to the nearest training image"
        near = f"as near to a training image as the nearest {100 * self.quantile:g} % of test images"
        return [
            Measurement(
                "nearest-share",
                share.share,
                near,
                error=share.error,
                unit=SHARE,
                kind=kind,
                conditions={**shared, "quantile": self.quantile},
                note=_COPIES if share.suspicious else "",
            ),
            Measurement("nearest-distance", float(draws.median()), title, kind=kind, conditions=shared),
            Measurement("nearest-distance", float(test.median()), title, part="test images", conditions=shared),
        ]

    def _show(self, evaluation: Evaluation, kind: str, found: Neighbours) -> None:
        few = found.squared[:, 0].argsort(stable=True)[: self.rows]
        near = chosen(found, few)
        pixels = torch.stack([_pixels(evaluation, kind, i) for i in few.tolist()])
        images = with_neighbours(pixels, near, evaluation.splits["train"])
        told = ", ".join(f"{d:.3g}" for d in distances(near).tolist())
        row = "Each row: the image, then the training images nearest to it"
        caption = f"{row}. Distances to the first: {told}. {COPIES}; `hebm analyse RUN nearest` shows test images, too."
        title = f"Nearest training images of the {KINDS[kind].title}"
        evaluation.show("nearest", Illustration(title, caption, images.flatten(0, 1), images.shape[1]))


def _pixels(evaluation: Evaluation, kind: str, i: int) -> Tensor:
    """Return image i of a kind, uint8 `(C, H, W)`, from the block of images that it is drawn in."""
    start = i - i % BLOCK
    return evaluation.pixel_batch(kind, start, min(BLOCK, evaluation.count(kind) - start)).pixels[i - start].cpu()
