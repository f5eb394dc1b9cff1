"""Whether samples of a class are what was asked for, as a classifier sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hebm.config.recipe import option, recipe
from hebm.data.images import Images
from hebm.evaluate.evaluation import Evaluation, evaluating
from hebm.evaluate.extractors import check_extractor
from hebm.evaluate.references import to_pixels
from hebm.evaluate.settings import EvaluateSettings
from hebm.interfaces import MetricRecipe, Request


@recipe
class LabelAgreement(MetricRecipe):
    """The share of samples, drawn for each class in turn, that a classifier of the data's labels takes for that class.

    The classifier is the extractor `classifier`; its own accuracy on the test split stands beside the result.
    """

    samples: int = option(1000, doc="images, as many of each class", low=1)

    def check(self, images: Mapping[str, Images], settings: EvaluateSettings) -> None:
        """Raises `ConfigError` where there are no class labels."""
        check_extractor("classifier", images["train"])

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
