"""Label-conditional energies: a layer's logits are the energies of the classes (arXiv 2405.13910, section 3.3).

f_i(z_i) = b log Σ_y exp(l_iy(z_i) / b),     p(y | z_i) = exp((l_iy − f_i) / b),     f_i(z_i | y) = l_iy(z_i)

b divides f in the density: it is 1 in the paper, and b_t at the scale of the published code. With this b, the three
are consistent.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec

ATTRIBUTES = "the number of binary attributes of the data, one at each of as many layers; 0 for none"
LABEL_LAYERS = "layers that carry labels, 0 being the top; empty: all layers, or the top ones, one per attribute"

UNASKED = -1
"""The label of a sample without a requested class."""


@attrs.frozen
class Coupling:
    """Assign a label to each energy.

    Arguments:
        columns: the label's column for each energy, or None for no label; () if no energy has a label.
        logits: K, the number of logits of each energy.
        attributes: the number of binary attributes; 0 for one label with K classes.
    """

    columns: tuple[int | None, ...] = ()
    logits: int = 1
    attributes: int = 0

    @property
    def labelled(self) -> bool:
        """Whether any energy carries a label."""
        return any(column is not None for column in self.columns)

    def check(self, images: ImageSpec) -> None:
        """Raise `ConfigError` unless the images have these labels."""
        kind, made = ("attributes", self.attributes) if self.attributes else ("classes", self.logits)
        there = len(images.attributes if self.attributes else images.classes)
        if self.labelled and there != made:
            raise ConfigError(
                f"prior.{kind} = {made}, but the images have {there} {kind}; give that number, choose {kind} in "
                "[data], or leave it at 0"
            )

    def tilt(self, logits: Tensor, scale: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return f_i, or f_i(·|y) for samples with a label y, `(B, E)`.

        Arguments:
            logits: l, `(B, E, K)`.
            scale: b, `(B, 1)`.
            labels: `(B,)`, or `(B, A)` with one column per attribute; −1 for no label.
        """
        if not self.labelled:
            return logits[..., 0]
        parts = [self._one(logits[:, e], column, scale, labels) for e, column in enumerate(self.columns)]
        return torch.stack(parts, dim=1)

    def _one(self, logits: Tensor, column: int | None, scale: Tensor, labels: Tensor | None) -> Tensor:
        """Return `tilt` of one energy, `(B,)`, for its logits `(B, K)`."""
        if column is None:
            return logits[:, 0]
        marginal = scale.squeeze(1) * (logits / scale).logsumexp(1)
        if labels is None:
            return marginal
        label = as_columns(labels)[:, column]
        chosen = logits.gather(1, label.clamp(min=0).unsqueeze(1)).squeeze(1)
        return torch.where(label == UNASKED, marginal, chosen)

    def cross_entropy(self, logits: Tensor, scale: Tensor, labels: Tensor | None) -> Tensor:
        """Return −Σ_i log p(y_i | z_i) over the energies that carry a label, `(B,)`.

        Raises `ConfigError` for images without labels.
        """
        if labels is None:
            raise ConfigError(
                "prior: classes or attributes are set, but these images have no labels; set both to 0, or use images "
                "with labels"
            )
        found = [
            F.cross_entropy(logits[:, e] / scale, as_columns(labels)[:, column], reduction="none", ignore_index=UNASKED)
            for e, column in enumerate(self.columns)
            if column is not None
        ]
        return torch.stack(found).sum(0)


def as_columns(labels: Tensor) -> Tensor:
    """Return labels as columns, `(B, A)`. Class labels `(B,)` become one column."""
    return labels.unsqueeze(1) if labels.ndim == 1 else labels


def logits_of(classes: int, attributes: int) -> int:
    """Return K, the number of outputs per energy: one per class, two for attributes, 1 without labels.

    Raises `ConfigError` for both kinds at once, or a single class.
    """
    if classes and attributes:
        raise ConfigError("prior.classes and prior.attributes: a prior carries class labels or attributes, not both")
    if classes == 1:
        raise ConfigError("prior.classes = 1: labels need at least two classes; leave it at 0 for no labels")
    return classes or (2 if attributes else 1)


def couple(classes: int, attributes: int, layers: tuple[int, ...], energies: int) -> Coupling:
    """Assign labels to energies: the class label to all of `layers`, or attribute j to layer `layers[j]`.

    Arguments:
        classes: the number of classes, 0 for no class label.
        attributes: the number of binary attributes, 0 for none.
        layers: numbers of layers, 0 being the top. () stands for all layers, or for one layer per attribute from the
            top.
        energies: the number of energies, `EnergyFn.count`.

    Raises `ConfigError` for classes and attributes at once, a layer that does not exist, or two attributes at one
    layer.
    """
    logits = logits_of(classes, attributes)
    if not classes and not attributes:
        return Coupling()
    if attributes > energies:
        raise ConfigError(
            f"prior.attributes = {attributes}: each attribute needs a different layer, and there are {energies} "
            "energies; name fewer in data.attributes, or use a backbone with more layers"
        )
    chosen = layers or tuple(range(attributes or energies))
    wrong = [layer for layer in chosen if not 0 <= layer < energies]
    if wrong:
        raise ConfigError(
            f"prior.label_layers: {wrong} is not among the {energies} energies; use 0 (the top layer) to {energies - 1}"
        )
    if attributes and (len(chosen) != attributes or len(set(chosen)) != attributes):
        raise ConfigError(f"prior.label_layers = {list(chosen)}: name {attributes} different layers, one per attribute")
    column = {layer: j if attributes else 0 for j, layer in enumerate(chosen)}
    return Coupling(tuple(column.get(e) for e in range(energies)), logits, attributes)
