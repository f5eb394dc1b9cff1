"""Check requested labels against the prior."""

from __future__ import annotations

from torch import Tensor

from hebm.errors import ConfigError
from hebm.interfaces import PriorLearner, TakesLabels


def takes_labels(prior: PriorLearner) -> bool:
    """Return whether draws of the prior depend on the labels of a request."""
    return isinstance(prior, TakesLabels) and prior.labelled


def require_labelled(prior: PriorLearner) -> None:
    """Raise `ConfigError` for a prior that was not trained with labels."""
    if not takes_labels(prior):
        raise ConfigError(
            "labels: this prior was not trained with labels; leave them out, or use one that was trained with labels"
        )


def check_labels(prior: PriorLearner, labels: Tensor | None, n: int) -> None:
    """Raise `ConfigError` if labels are given and the prior was not trained with labels, or if they are not n."""
    if labels is None:
        return
    require_labelled(prior)
    if len(labels) != n:
        raise ConfigError(f"labels: {len(labels)} labels for {n} samples; give one per sample")
