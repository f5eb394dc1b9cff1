"""Out-of-distribution detection by the log tilt of the upper layers.

References:
    Learning Latent Space Hierarchical EBM Diffusion Models, arXiv 2405.13910, section 5.3 and Figure 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from hebm.analysis.analysis_recipe import AnalysisRecipe
from hebm.analysis.section import Picture, Section
from hebm.config.recipes import option, recipe
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.data.images import Images
from hebm.data.resized import Resized, UpsideDown
from hebm.errors import ConfigError
from hebm.evaluation.detection import Detection
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.references import EvenSubset
from hebm.registry import name_of
from hebm.report.grids import save_grid
from hebm_plugins.analyses.detection_scores import (
    INFERENCE,
    REGENERATED,
    against_control,
    all_scores,
    curves,
    histograms,
    in_words,
    plain,
    save_detections,
    tables,
)

NO_TILT = "its prior has no tilt, so it has no energy to score images with"
_SHOWN = 16


@recipe
class OutOfDistribution(AnalysisRecipe):
    """AUROC, AUPRC and FPR95 of Σ f over the layers above k, test images against a second data set (arXiv 2405.13910).

    Latents are inferred. For a prior with levels of noise, they are also regenerated: layers above k are fixed, and the
    prior draws the layers below. For comparison, the tables show −|u|²/2 over the same layers, which is not learned,
    and, for a prior with a density, the sum of both.
    """

    data: DatasetRecipe | None = option(
        None, doc="second data set, whose test split is scored; by default see `second`"
    )
    second: str = option("flipped", choices=("flipped",), doc="second set without `data`: the test images upside down")
    images: int = option(2000, low=2, doc="largest number of images of each set; a subset is evenly spaced")
    draws: int = option(1, low=1, doc="posterior draws over which a score is averaged")
    thresholds: int = option(10, low=1, doc="largest number of k to regenerate at, evenly spaced")

    def unsupported(self, evaluation: Evaluation) -> str | None:
        """Return a reason if the prior has no tilt."""
        return NO_TILT if evaluation.model.tilt is None else None

    def run(self, evaluation: Evaluation, folder: Path) -> Section:
        """Make tables, curves and histograms. Raises `ConfigError` or `DataError` for an unsuitable second data set."""
        outside, name, remark = self._second(evaluation.splits["test"])
        few = [EvenSubset(images, self.images) for images in (evaluation.splits["test"], outside)]
        scores = all_scores(evaluation, few, self.draws, self.thresholds)
        found = {kind: both.detections() for kind, both in scores.items()}
        save_detections(folder, found)
        shown = evaluation.batch(EvenSubset(outside, _SHOWN), 0, min(_SHOWN, len(outside))).x
        save_grid(shown, folder / "outside.png", _SHOWN)
        pictures = (
            Picture("outside.png", f"Outside: {name}", "Resized as input of the model.", pixels=True),
            *curves(folder, found),
            *histograms(folder, scores, ("test images", name)),
        )
        what = f"Test images ({len(few[0])}) against {name} ({len(few[1])}).{remark} {_TEXT}"
        if overflowed := max(both.overflowed for both in scores.values()):
            what += (
                f" Scores of {overflowed} outside images overflow: NaN counts as the lowest score, and "
                "infinities keep their value."
            )
        return Section("Out of distribution", (what, *_words(found)), pictures, tables(found), plain(found))

    def _second(self, inside: Images) -> tuple[Images, str, str]:
        """Return the images outside, their name, and a remark on how they were resized."""
        if not len(inside):
            raise ConfigError("ood: the run's data set has no test images")
        if self.data is None:
            return UpsideDown(inside), "the same upside down", ""
        name = name_of(self.data)
        other = self.data.load("test")
        if not len(other):
            raise ConfigError(f"ood.data: {name} has no test images")
        fitted = Resized(other, inside.shape, name, "ood.data")
        _, height, width = other.shape
        return fitted, name, f" The latter are resized from {width}×{height} pixels." if fitted.resized else ""


def _words(found: Mapping[str, Mapping[int, Detection]]) -> Iterator[str]:
    yield f"By inference: {in_words(found[INFERENCE])}"
    if REGENERATED in found:
        yield f"Regenerated: {in_words(found[REGENERATED])}"
    elif len(found[INFERENCE]) > 1:
        yield "This prior does not change fixed layers, so regenerating would give the same scores."
    yield against_control(found)


_TEXT = (
    "The score of an image is the log tilt f of its latents, summed over the layers above the k-th from the bottom. A "
    "high score means similar to the training data. Lower layers encode features that all images share, and may score "
    "any image high."
)
