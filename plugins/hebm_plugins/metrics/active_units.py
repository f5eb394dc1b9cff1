"""The share of latent units that carry information (Burda, Grosse, Salakhutdinov, arXiv 1509.00519, section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.data.images import Images
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.metric import SHARE, Measurement, MetricRecipe, Scalar
from hebm.evaluation.plan import EvaluationPlan
from hebm.interfaces import Backbone, Batch, InferringBackbone
from hebm.noise import Noise

THRESHOLDS = (0.01, 0.001)
NO_MEANS = "q(z|x) has no means: latents are inferred by MCMC, or through flows"


@recipe
class ActiveUnits(MetricRecipe):
    """The share of units d with Var_x(μ_d(x)) > 0.01, where μ(x) is the mean of q(z_i|·) (arXiv 1509.00519).

    The variance is the unbiased one over test images. μ of a layer depends on one draw of the layers above, as
    published. The context is left out. DVP-VAE averages over validation batches of 500 to 1,000 images instead.

    Example:
        >>> ActiveUnits(images=500).images
        500
    """

    images: int = option(1000, low=2, doc="largest number of test images; a subset is spread evenly over the split")

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Say where the variance over test images cannot be measured."""
        lacking = _lacking(plan.backbone, plan.images["test"])
        return [f"active-units will be undefined: {lacking}"] if lacking else []

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `active-units`: the share of all units and of each layer's, top first, at two thresholds."""
        if lacking := _lacking(evaluation.model.backbone, evaluation.splits["test"]):
            return [_none(lacking)]
        variance = self._variance(evaluation)
        if variance is None:
            return [_none(NO_MEANS)]
        if not variance.isfinite().all():
            return [_none("the posterior's means are not finite for some test images")]
        n = min(self.images, len(evaluation.splits["test"]))
        conditions: dict[str, Scalar] = {"n": n, "split": "test", "units": len(variance)}
        layers = torch.split(variance, list(evaluation.model.backbone.layout.sizes))
        main, strict = (_at(threshold, variance, layers, conditions) for threshold in THRESHOLDS)
        return [*main, *(attrs.evolve(found, name=f"{found.name}-strict", detail=True) for found in strict)]

    def _variance(self, evaluation: Evaluation) -> Tensor | None:
        """Return the variance of every unit's posterior mean, `(D,)`."""
        without = False

        def score(batch: Batch, noise: Noise) -> Tensor:
            nonlocal without
            mean = evaluation.model.infer(batch, noise).mean
            without = mean is None
            return batch.x.new_zeros(len(batch.x), dim) if mean is None else evaluation.model.backbone.layout.join(mean)

        dim = evaluation.model.backbone.layout.dim
        means = evaluation.per_image("test", score, self.images, (dim,))
        return None if without else means.var(0)


def _at(
    threshold: float, variance: Tensor, layers: Sequence[Tensor], conditions: Mapping[str, Scalar]
) -> list[Measurement]:
    """Return the share of units whose variance exceeds a threshold, of all and by layer."""
    title, conditions = f"active units, variance > {threshold}", {"threshold": threshold, **conditions}
    every = Measurement("active-units", _above(variance, threshold), title, unit=SHARE, conditions=conditions)
    by_layer = attrs.evolve(every, name="active-units-by-layer", title=f"{title}, by layer", detail=True)
    parts = enumerate(layers, 1)
    return [every, *(attrs.evolve(by_layer, value=_above(z, threshold), part=f"layer {i}") for i, z in parts)]


def _above(variance: Tensor, threshold: float) -> float:
    return float((variance > threshold).double().mean())


def _lacking(backbone: Backbone, images: Images) -> str:
    """Return what the variance of posterior means cannot be measured without; "" if nothing is lacking."""
    if not isinstance(backbone, InferringBackbone):
        return "the backbone has no inference model q(z|x)"
    return "" if len(images) > 1 else "there are fewer than two test images"


def _none(reason: str) -> Measurement:
    return Measurement("active-units", None, "active units", unit=SHARE, note=reason)
