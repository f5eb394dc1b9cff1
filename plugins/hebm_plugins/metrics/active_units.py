"""How many latent units carry information (Burda, Grosse, Salakhutdinov, arXiv 1509.00519, section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hebm.config.recipe import option, recipe
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.metric import MetricRecipe
from hebm.interfaces import Batch, InferringBackbone
from hebm.noise import Noise

THRESHOLDS = (0.01, 0.001)
NO_MEANS = "q(z|x) has no means: latents are inferred by MCMC, or through flows"


@recipe
class ActiveUnits(MetricRecipe):
    """Unit d is active if Var_x(μ_d(x)) > 0.01, μ(x) the mean of q(z_i|·) in z; the context is left out.

    The variance (unbiased) is over test images. μ of a layer depends on one draw of those that q is told of, as
    published; DVP-VAE averages over validation batches of 500 to 1,000 images.
    """

    images: int = option(1000, low=2, doc="test images at most, evenly spread")

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`active_units.*`: the fraction of all units and of each layer's, top first, at two thresholds."""
        inferring = isinstance(evaluation.model.backbone, InferringBackbone)
        if not inferring or len(evaluation.splits["test"]) < 2:
            return {"active_units": {"fraction": None, "reason": "no inference model q(z|x), or no test images"}}
        variance = self._variance(evaluation)
        if variance is None:
            return {"active_units": {"fraction": None, "reason": NO_MEANS}}
        layers = torch.split(variance, list(evaluation.model.backbone.layout.sizes))
        found: dict[str, Any] = {"n": min(self.images, len(evaluation.splits["test"])), "split": "test"}
        for threshold in THRESHOLDS:
            key = "" if threshold == THRESHOLDS[0] else f"_at_{threshold}"
            found[f"fraction{key}"] = _share(variance, threshold)
            found[f"per_layer{key}"] = [_share(layer, threshold) for layer in layers]
        return {"active_units": {**found, "threshold": THRESHOLDS[0], "units": len(variance)}}

    def _variance(self, evaluation: Evaluation) -> Tensor | None:
        """Of every unit's posterior mean, `(D,)`."""
        without = False

        def score(batch: Batch, noise: Noise) -> Tensor:
            nonlocal without
            mean = evaluation.model.infer(batch, noise).mean
            without = mean is None
            return batch.x.new_zeros(len(batch.x), dim) if mean is None else evaluation.model.backbone.layout.join(mean)

        dim = evaluation.model.backbone.layout.dim
        means = evaluation.per_image("test", score, self.images, (dim,))
        return None if without else means.var(0)


def _share(variance: Tensor, threshold: float) -> float:
    return float((variance > threshold).double().mean())
