"""Classes of samples, as a classifier sees them: whether they are what was asked for, and how often each is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hebm.config.recipe import option, recipe
from hebm.data.images import Images
from hebm.evaluate.evaluation import Evaluation, evaluating
from hebm.evaluate.metric import MetricRecipe
from hebm.evaluate.references import to_pixels
from hebm.evaluate.settings import EvaluateSettings
from hebm.interfaces import Request
from hebm_plugins.metrics.distances import KINDS


@recipe
class LabelAgreement(MetricRecipe):
    """The share of samples, drawn for each class in turn, that a classifier of the data's labels takes for that class.

    The classifier is the extractor `classifier`; its own accuracy on the test split stands beside the result.
    """

    samples: int = option(1000, doc="images, as many of each class", low=1)

    def check(self, images: Mapping[str, Images], settings: EvaluateSettings) -> None:
        """Raises `ConfigError` where there are no class labels."""
        settings.extractor_called("classifier").check(images["train"])

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`label_agreement.*`: over all samples, and per class; None for a prior without labels."""
        if not evaluation.prior.labelled:
            return {"label_agreement": {"all": None, "reason": "the prior was not trained with labels"}}
        names = evaluation.images["train"].classes
        asked = torch.arange(self.samples) % len(names)
        agreed = (self._seen(evaluation, asked) == asked).double()
        classifier = evaluation.extractor("classifier").describe()
        each = {name: agreed[asked == i].mean().item() for i, name in enumerate(names) if i < self.samples}
        return {
            "label_agreement": {
                "all": agreed.mean().item(),
                "classes": each,
                "n": self.samples,
                "classifier_accuracy": classifier.get("accuracy"),
            }
        }

    def _seen(self, evaluation: Evaluation, asked: Tensor) -> Tensor:
        """The class that the classifier sees in a sample of each class asked for, `(N,)`."""
        extractor, rows = evaluation.extractor("classifier"), evaluation.settings.rows
        parts = []
        with evaluating(evaluation.backbone, evaluation.prior):
            for start, n in evaluation.processes.batches(len(asked), rows):
                labels = asked[start : start + n].to(evaluation.device)
                noise = evaluation.noise("labelled", start)
                draw = evaluation.prior.sample(evaluation.generator, n, noise, Request(labels))
                latents = evaluation.generator.latents(draw.u, draw.context)
                images = evaluation.generator.likelihood(latents).mean
                parts.append(extractor(to_pixels(images))["logits"].argmax(1))
        empty = torch.empty(0, dtype=torch.int64, device=evaluation.device)
        return evaluation.processes.join(parts, empty, len(asked), rows).cpu()


@recipe
class ClassShares(MetricRecipe):
    """½ Σ_k |p_k − d_k|: p_k the share of class k among draws, d_k among the data; 0 if they agree, 1 at most.

    A prior that starves some modes and feeds others is found out by it, however good each of its images looks. Classes
    are what the extractor `classifier` sees, in the data too, so that its mistakes count on neither side.
    """

    def check(self, images: Mapping[str, Images], settings: EvaluateSettings) -> None:
        """Raises `ConfigError` where there are no class labels."""
        settings.extractor_called("classifier").check(images["train"])

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`class_shares.<kind>`, and `.shares.<kind>`, a number for each class in the order of `.classes`."""
        names = evaluation.images["train"].classes
        shares = {kind: self._shares(evaluation, kind, len(names)) for kind in ("data", *KINDS)}
        found: dict[str, Any] = {kind: 0.5 * (shares[kind] - shares["data"]).abs().sum().item() for kind in KINDS}
        found["shares"] = {kind: share.tolist() for kind, share in shares.items()}
        accuracy = evaluation.extractor("classifier").describe().get("accuracy")
        return {"class_shares": {**found, "classes": list(names), "classifier_accuracy": accuracy}}

    def _shares(self, evaluation: Evaluation, kind: str, classes: int) -> Tensor:
        seen = evaluation.features(kind, "logits", extractor="classifier").argmax(1)
        return torch.bincount(seen, minlength=classes).double() / len(seen)
