"""Classes of samples, as seen by a classifier: agreement with the requested class, and the share of each class."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import DATA, PRIOR
from hebm.evaluation.metric import SHARE, Measurement, MetricRecipe, Scalar
from hebm.evaluation.plan import EvaluationPlan
from hebm.interfaces import Request
from hebm.labelled import takes_labels
from hebm.pixel_levels import to_pixels
from hebm.trained import finite

_WITHOUT_LABELS = "the prior was not trained with labels"


@recipe
class LabelAgreement(MetricRecipe):
    """(1/N) Σ_i 1[c(x_i) = y_i]: the share of samples x_i of class y_i that a classifier c assigns to this class.

    Each class has the same number of samples. The classifier is the extractor `classifier`. Its accuracy on the test
    split is reported too.

    Example:
        >>> LabelAgreement(samples=500).samples
        500
    """

    samples: int = option(1000, doc="N, the number of samples, divided equally among the classes", low=1)

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Return a note if the prior takes no labels. Raises `ConfigError` if the images have no labels."""
        plan.extractor("classifier")
        return [] if takes_labels(plan.prior) else [f"label-agreement will be undefined: {_WITHOUT_LABELS}"]

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `label-agreement` over all samples, and for each class; none for a prior without labels."""
        title = "label agreement"
        conditions: dict[str, Scalar] = {"extractor": "classifier", "n": self.samples}
        if not takes_labels(evaluation.model.prior):
            return [Measurement("label-agreement", None, title, unit=SHARE, kind=PRIOR, note=_WITHOUT_LABELS)]
        names = evaluation.splits["train"].classes
        asked = torch.arange(self.samples) % len(names)
        agreed = (self._seen(evaluation, asked) == asked).double()
        every = Measurement(
            "label-agreement",
            agreed.mean().item(),
            title,
            unit=SHARE,
            kind=PRIOR,
            better="higher",
            conditions=conditions,
        )
        by_class = attrs.evolve(every, name="label-agreement-by-class", title="label agreement by class", detail=True)
        parts = [
            attrs.evolve(by_class, value=agreed[asked == i].mean().item(), part=name)
            for i, name in enumerate(names)
            if i < self.samples
        ]
        return [every, *parts, _accuracy(evaluation)]

    def _seen(self, evaluation: Evaluation, asked: Tensor) -> Tensor:
        """Draw a sample of each class in `asked` and return the class that the classifier sees in it, `(N,)`."""
        extractor, rows = evaluation.extractor("classifier"), evaluation.rows
        parts = []
        for start, n in evaluation.processes.batches(len(asked), rows):
            labels = asked[start : start + n].to(evaluation.model.device)
            draw = evaluation.model.draw(n, evaluation.noise("labelled", start), Request(labels))
            images = finite(evaluation.model.images(draw))
            parts.append(extractor(to_pixels(images))["logits"].argmax(1))
        empty = torch.empty(0, dtype=torch.int64, device=evaluation.model.device)
        return evaluation.processes.join(parts, empty, len(asked), rows).cpu()


@recipe
class ClassShares(MetricRecipe):
    """½ Σ_k |p_k − d_k|, where p_k is the share of class k among draws, and d_k among the data.

    It is 0 if the shares agree, and at most 1. A large value shows that the prior draws some modes too rarely and
    others too often, however good each image looks. Classes are predictions of the extractor `classifier`, for the data
    too, so that its mistakes affect both sides equally.

    Example:
        >>> from hebm import EvaluateSettings
        >>> EvaluateSettings(metrics=(ClassShares(),)).samples > 0
        True
    """

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Check the classifier. Raises `ConfigError` if the images have no class labels."""
        plan.extractor("classifier")
        return []

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure `class-shares` of each kind, and the share of each class, of the data too."""
        names = evaluation.splits["train"].classes
        shares = {kind: self._shares(evaluation, kind, len(names)) for kind in (DATA, *evaluation.kinds)}
        found = [_distance(kind, 0.5 * (shares[kind] - shares[DATA]).abs().sum().item()) for kind in evaluation.kinds]
        for kind, share in shares.items():
            found += [_share(kind, name, value) for name, value in zip(names, share.tolist(), strict=True)]
        return [*found, _accuracy(evaluation)]

    def _shares(self, evaluation: Evaluation, kind: str, classes: int) -> Tensor:
        seen = evaluation.features(kind, "logits", extractor="classifier").argmax(1)
        return torch.bincount(seen, minlength=classes).double() / len(seen)


def _distance(kind: str, value: float) -> Measurement:
    title, conditions = "class shares: distance to the data’s", {"extractor": "classifier"}
    return Measurement("class-shares", value, title, kind=kind, better="lower", conditions=conditions)


def _share(kind: str, name: str, value: float) -> Measurement:
    return Measurement(
        "class-share",
        value,
        "share of class",
        unit=SHARE,
        kind=kind,
        part=name,
        conditions={"extractor": "classifier"},
        detail=True,
    )


def _accuracy(evaluation: Evaluation) -> Measurement:
    """Return the accuracy of the classifier on test images."""
    accuracy = evaluation.extractor("classifier").describe().get("accuracy")
    return Measurement(
        "classifier-accuracy",
        accuracy if isinstance(accuracy, float) else None,
        "accuracy of the classifier",
        unit=SHARE,
        conditions={"extractor": "classifier", "split": "test"},
        detail=True,
    )
