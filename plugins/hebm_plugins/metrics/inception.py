"""FID, KID and Inception Score: torch-fidelity's own functions on the features of its own Inception.

These always use Inception, whatever `evaluate.extractor` says: under these names nothing else is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from hebm.config.recipe import option, recipe
from hebm.errors import ConfigError
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.metric import MetricRecipe
from hebm_plugins.extractors.inception import Inception
from hebm_plugins.metrics.distances import KINDS

_SEED = 2020  # torch-fidelity's default, so that its command line gives the same subsets


@recipe
class OfInception(MetricRecipe):
    """What is measured in Inception's features."""

    inception: Inception | None = option(
        None, doc="the network; left out: evaluate.extractor where that is inception, else its standard weights"
    )

    def features(self, evaluation: Evaluation, kind: str, layer: str = "features") -> Tensor:
        """Return features or logits of all images of a kind."""
        return evaluation.features(kind, layer, self.inception or "inception")


@recipe
class FID(OfInception):
    """Fréchet Inception distance. Lower is better; it depends on N."""

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`fid.gaussian`, `fid.prior`, `fid.reconstruction`."""
        data = fid_features_to_statistics(self.features(evaluation, "data"))
        found = {}
        for kind in KINDS:
            statistics = fid_features_to_statistics(self.features(evaluation, kind))
            found[kind] = float(fid_statistics_to_metric(statistics, data, False)[KEY_METRIC_FID])
        return {"fid": found}


@recipe
class KID(OfInception):
    """Kernel Inception distance: polynomial MMD² over random subsets. Lower is better; unbiased in N."""

    subsets: int = option(100, low=1, doc="random subsets averaged over")
    subset_size: int = option(1000, low=2, doc="images in each")

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`kid.<kind>.mean` and `.std`, with subsets and their size. Raises `ConfigError` for too few images."""
        fewest = min(evaluation.count("data"), evaluation.count("prior"))
        if fewest < self.subset_size:
            raise ConfigError(
                f"evaluate.metrics: kid takes subsets of {self.subset_size}, there are {fewest} images; "
                f'use {{type = "kid", subset_size = {fewest}}} or raise evaluate.samples'
            )
        found: dict[str, Any] = {kind: self._distance(evaluation, kind) for kind in KINDS}
        return {"kid": {**found, "subsets": self.subsets, "subset_size": self.subset_size}}

    def _distance(self, evaluation: Evaluation, kind: str) -> dict[str, float]:
        result = kid_features_to_metric(
            self.features(evaluation, kind),
            self.features(evaluation, "data"),
            kid_subsets=self.subsets,
            kid_subset_size=self.subset_size,
            rng_seed=_SEED,
            verbose=False,
        )
        return {"mean": result[KEY_METRIC_KID_MEAN], "std": result[KEY_METRIC_KID_STD]}


@recipe
class InceptionScore(OfInception):
    """exp E[KL(p(y|x) ‖ p(y))] over splits of shuffled images. Higher is better; it looks at no real image."""

    splits: int = option(10, low=1, doc="parts averaged over")

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`inception_score.<kind>.mean` and `.std` for the data, the Gaussian and the learned prior."""
        found: dict[str, Any] = {}
        for kind in ("data", "gaussian", "prior"):
            logits = self.features(evaluation, kind, "logits")
            result = isc_features_to_metric(logits, splits=self.splits, shuffle=True, rng_seed=_SEED)
            found[kind] = {"mean": result[KEY_METRIC_ISC_MEAN], "std": result[KEY_METRIC_ISC_STD]}
        return {"inception_score": {**found, "splits": self.splits}}
