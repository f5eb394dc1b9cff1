"""Labels coupled to energies: a layer's logits are energies of its label's classes (arXiv 2405.13910, section 3.3).

f_i(z_i) = b log Σ_y exp(l_iy(z_i) / b),     p(y | z_i) = exp((l_iy − f_i) / b),     f_i(z_i | y) = l_iy(z_i)

b is what divides f in the density: 1 in the paper, b_t at the published code's scale. All are then one model.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec

UNASKED = -1
"""In place of a class: any."""


@attrs.frozen
class Coupling:
    """Which label each energy carries.

    Arguments:
        columns: per energy, the label's column, or None; () couples nothing.
        logits: how many each energy has, K.
        attributes: how many binary attributes; 0 for one label of K classes.
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
        """f_i, or f_i(·|y) where a label is asked for, `(B, E)`.

        Arguments:
            logits: l, `(B, E, K)`.
            scale: b, `(B, 1)`.
            labels: `(B,)`, or `(B, A)` with one column per label; −1 asks for none.
        """
        if not self.labelled:
            return logits[..., 0]
        parts = [self._one(logits[:, e], column, scale, labels) for e, column in enumerate(self.columns)]
        return torch.stack(parts, dim=1)

    def _one(self, logits: Tensor, column: int | None, scale: Tensor, labels: Tensor | None) -> Tensor:
        """Of one energy `(B, K)`."""
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
    """Labels `(B, A)`; class labels `(B,)` become one column."""
    return labels.unsqueeze(1) if labels.ndim == 1 else labels


def logits_of(classes: int, attributes: int) -> int:
    """K, outputs per energy: one per class, two for attributes, 1 without labels.

    Raises `ConfigError` for both kinds at once, or a single class.
    """
    if classes and attributes:
        raise ConfigError("prior.classes and prior.attributes: a prior carries class labels or attributes, not both")
    if classes == 1:
        raise ConfigError("prior.classes = 1: one class says nothing; leave it at 0")
    return classes or (2 if attributes else 1)


def couple(classes: int, attributes: int, layers: tuple[int, ...], energies: int) -> Coupling:
    """Which energy carries what: one class label at all of `layers`, or attribute j at layer `layers[j]`.

    Arguments:
        classes: how many, 0 for no class label.
        attributes: how many binary attributes, 0 for none.
        layers: 0 is the top; () for all, or for the uppermost as many as there are attributes.
        energies: how many the net has: `EnergyFn.count`.

    Raises `ConfigError` for both kinds at once, a layer that is not there, or two attributes at one layer.
    """
    logits = logits_of(classes, attributes)
    if not classes and not attributes:
        return Coupling()
    if attributes > energies:
        raise ConfigError(
            f"prior.attributes = {attributes}: each needs a layer of its own, and there are {energies} energies; "
            "name fewer in data.attributes, or use a backbone of more layers"
        )
    chosen = layers or tuple(range(attributes or energies))
    wrong = [layer for layer in chosen if not 0 <= layer < energies]
    if wrong:
        raise ConfigError(f"prior.label_layers: {wrong} not among the {energies} energies (0 is the top layer's)")
    if attributes and (len(chosen) != attributes or len(set(chosen)) != attributes):
        raise ConfigError(
            f"prior.label_layers = {list(chosen)}: {attributes} attributes need {attributes} layers of their own"
        )
    column = {layer: j if attributes else 0 for j, layer in enumerate(chosen)}
    return Coupling(tuple(column.get(e) for e in range(energies)), logits, attributes)
