"""The denoiser of a flat layer: a perceptron."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hebm.perturbations import Dropout
from hebm_plugins.energies.layerwise import started
from hebm_plugins.energies.mlp import ACTIVATIONS
from hebm_plugins.energies.mlp_time import MLPTimeNet
from hebm_plugins.priors.score.denoiser import Denoiser, Shape


class EvenLinear(nn.Module):
    """W c v + b, c = min(1, √(outputs / inputs)); the initial W is larger by the factor 1/c.

    Without c, one step of Adam would change the output in proportion to the number of inputs, which is in the thousands
    for a feature map.

    Arguments:
        inputs, outputs: number of elements of the input and the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(inputs, outputs), min(1.0, math.sqrt(outputs / inputs))
        with torch.no_grad():
            self.linear.weight.div_(self.scale)

    def forward(self, v: Tensor) -> Tensor:
        """Return W c v + b, `(B, outputs)`, of v `(B, …)`."""
        y: Tensor = self.linear(self.scale * v.flatten(1))
        return y


class MLPDenoiser(Denoiser):
    """`MLPTimeNet` on [u_t, h], with h = a(W c v + b) and v the standardised feature. The last layer starts at 0.

    Arguments:
        size: d, the number of elements of the layer.
        feature: shape of the feature.
        width, depth: units and number of the hidden layers; h has `width` elements too.
        activation: the name of a.
        dropout: dropout rate of h and of every hidden layer in training.
    """

    def __init__(self, size: int, feature: Shape, width: int, depth: int, activation: str, dropout: float) -> None:
        super().__init__(feature)
        self.feature, self.activation = EvenLinear(math.prod(feature), width), ACTIVATIONS[activation]()
        self.dropout = Dropout(dropout)
        self.net = MLPTimeNet(size + width, width, depth, size, activation, False, dropout)
        started(self.net.out, True)

    def encoded(self, feature: Tensor) -> Tensor:
        """Return h `(B, width)` of features `(B, …)`."""
        h: Tensor = self.dropout(self.activation(self.feature(self.standardised(feature))))
        return h

    def forward(self, noised: Tensor, encoded: Tensor, t: Tensor) -> Tensor:
        """Return n `(B, d)` of u_t `(B, d)`, h `(B, width)` and times t."""
        n: Tensor = self.net(torch.cat([noised, encoded], dim=1), self.time_features(t, noised))
        return n
