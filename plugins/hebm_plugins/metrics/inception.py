"""FID, KID and Inception Score: torch-fidelity's functions on the features of its Inception network.

They always use Inception, whatever `evaluate.extractors` says, since their names are defined by it.
"""

from __future__ import annotations

import attrs
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.frechet import few_for
from hebm.evaluation.kinds import DATA, RECONSTRUCTION
from hebm.evaluation.metric import Measurement, MetricRecipe, Scalar
from hebm.evaluation.plan import EvaluationPlan
from hebm_plugins.extractors.inception import Inception
from hebm_plugins.metrics.distances import few_images_notes

_SEED = 2020  # torch-fidelity's default, so that its command line gives the same subsets


@recipe
class OfInception(MetricRecipe):
    """Base class of metrics in Inception's features."""

    inception: Inception | None = option(
        None,
        doc="the network; by default the one in evaluate.extractors, or else inception with its standard weights",
    )

    def features(self, evaluation: Evaluation, kind: str, layer: str = "features") -> Tensor:
        """Return features or logits of all images of a kind."""
        return evaluation.features(kind, layer, self._extractor)

    @property
    def _extractor(self) -> Inception | str:
        return self.inception or "inception"


@recipe
class FID(OfInception):
    """|m_1 − m_2|² + tr(C_1 + C_2 − 2 (C_1 C_2)^½) of Inception's 2048 features: the Fréchet Inception distance.

    Lower is better. It depends on the number of images N. Source: arXiv 1706.08500.

    Example:
        >>> from hebm import EvaluateSettings
        >>> EvaluateSettings(metrics=(FID(),), samples=50_000).samples
        50000
    """

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the images and the weights, and say where images are few for 2048 features."""
        notes = few_images_notes(plan, [self._extractor])
        unbiased = any(isinstance(metric, KID) for metric in plan.settings.metrics)
        return [note if unbiased else f'{note}, or add the metric "kid", which is unbiased' for note in notes]

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `fid` of each kind."""
        data = fid_features_to_statistics(self.features(evaluation, DATA))
        note = few_for(evaluation.fewest, "inception", Inception.width)
        found = []
        for kind in evaluation.kinds:
            statistics = fid_features_to_statistics(self.features(evaluation, kind))
            distance = fid_statistics_to_metric(statistics, data, False)[KEY_METRIC_FID]
            conditions = {"extractor": "inception"}
            found.append(
                Measurement(
                    "fid",
                    distance,
                    "FID",
                    kind=kind,
                    better="lower",
                    conditions=conditions,
                    note=note,
                )
            )
        return found


@recipe
class KID(OfInception):
    """E[k(x, x')] + E[k(y, y')] − 2 E[k(x, y)], k(a, b) = (aᵀb / 2048 + 1)³: the kernel Inception distance.

    It is the mean over random subsets of images, and unbiased for any N. Lower is better. Source: arXiv 1801.01401.

    Example:
        >>> KID(subset_size=500).subsets
        100
    """

    subsets: int = option(100, low=1, doc="number of random subsets to average over")
    subset_size: int = option(1000, low=2, doc="images in each subset")

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the images and the weights. Raises `ConfigError` if a subset is larger than the number of images."""
        plan.extractor(self._extractor)
        self._require(plan.fewest, plan.settings.samples)
        return []

    def _require(self, fewest: int, samples: int) -> None:
        if fewest >= self.subset_size:
            return
        more = " or use more images (evaluate.samples)" if fewest == samples else ""
        raise ConfigError(
            f"evaluate.metrics: kid takes subsets of {self.subset_size} images, but there are only {fewest}; "
            f'use {{ type = "kid", subset_size = {fewest} }}{more}'
        )

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `kid`, the mean over subsets with its standard error, and `kid-std`, their standard deviation.

        Raises `ConfigError` for too few images.
        """
        self._require(evaluation.fewest, evaluation.settings.samples)
        return [found for kind in evaluation.kinds for found in self._of_kind(evaluation, kind)]

    def _of_kind(self, evaluation: Evaluation, kind: str) -> tuple[Measurement, Measurement]:
        result = kid_features_to_metric(
            self.features(evaluation, kind),
            self.features(evaluation, DATA),
            kid_subsets=self.subsets,
            kid_subset_size=self.subset_size,
            rng_seed=_SEED,
            verbose=False,
        )
        conditions: dict[str, Scalar] = {
            "extractor": "inception",
            "subsets": self.subsets,
            "subset_size": self.subset_size,
        }
        deviation = result[KEY_METRIC_KID_STD]
        mean = Measurement(
            "kid",
            result[KEY_METRIC_KID_MEAN],
            "KID",
            deviation / self.subsets**0.5 if self.subsets > 1 else None,  # one subset has no deviation
            kind=kind,
            better="lower",
            conditions=conditions,
            note=self._of_error(evaluation.fewest),
        )
        return mean, _std(mean, deviation, "subsets")

    def _of_error(self, n: int) -> str:
        """Describe the standard error for n images, including what it leaves out if subsets share images."""
        if self.subsets == 1:
            return ""
        shared = self.subsets * self.subset_size > n
        also = "; the subsets share images, so the error over new images is larger" if shared else ""
        return f"± is the standard deviation over {self.subsets} subsets / √{self.subsets}{also}"


@recipe
class InceptionScore(OfInception):
    """exp E[KL(p(y|x) ‖ p(y))], the mean over splits of shuffled images: the Inception score.

    Higher is better. It does not depend on real images. Source: arXiv 1606.03498.

    Example:
        >>> InceptionScore().splits
        10
    """

    splits: int = option(10, low=1, doc="number of splits to average over")

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the images and the weights. Raises `ConfigError` for more splits than images."""
        plan.extractor(self._extractor)
        self._require(plan.fewest)
        return []

    def _require(self, fewest: int) -> None:
        if fewest < self.splits:
            raise ConfigError(
                f"evaluate.metrics: inception-score averages over {self.splits} splits, and there are {fewest} "
                f'images; use {{ type = "inception-score", splits = {fewest} }} or use more images (evaluate.samples)'
            )

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `inception-score`, the mean over splits, and `inception-score-std`, their deviation."""
        self._require(evaluation.fewest)
        found: list[Measurement] = []
        for kind in (DATA, *(kind for kind in evaluation.kinds if kind != RECONSTRUCTION)):
            logits = self.features(evaluation, kind, "logits")
            result = isc_features_to_metric(logits, splits=self.splits, shuffle=True, rng_seed=_SEED)
            conditions: dict[str, Scalar] = {"extractor": "inception", "splits": self.splits}
            value, title = result[KEY_METRIC_ISC_MEAN], "Inception score"
            mean = Measurement("inception-score", value, title, kind=kind, better="higher", conditions=conditions)
            found += [mean, _std(mean, result[KEY_METRIC_ISC_STD], "splits")]
        return found


def _std(mean: Measurement, value: float, over: str) -> Measurement:
    """Return the standard deviation over subsets or splits, which is not the standard error of their mean."""
    title = f"{mean.title}: standard deviation over {over}"
    return attrs.evolve(
        mean, name=f"{mean.name}-std", value=value, title=title, better=None, error=None, note="", detail=True
    )
