"""Multi-layer perceptrons that depend on the level of a diffusion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import EnergyRecipe
from hebm.latents import LatentLayout
from hebm.perturbations import Dropout
from hebm_plugins.energies.conv_time_folding import transposed
from hebm_plugins.energies.coordinates import COORDINATE_DOC, COORDINATES, seen_shapes
from hebm_plugins.energies.layerwise import started
from hebm_plugins.energies.layerwise_time import LayerwiseTimeEnergy, TimeNet
from hebm_plugins.energies.mlp import ACTIVATIONS, per_layer
from hebm_plugins.energies.spectral_norm import LinearMap
from hebm_plugins.energies.time_embedding import TimeMLP
from hebm_plugins.module_lists import ModuleList


class MLPTimeNet(TimeNet):
    """x ← a(W_k x + b_k + V_k s) for every hidden layer k, then W x + b; s = silu(time net of sinusoids of t).

    Arguments:
        size: number of elements of the layer; a map is flattened.
        width: units of every hidden layer.
        depth: number of hidden layers.
        logits: K, the number of outputs.
        activation: the name of a.
        spectral: normalise every weight.
        dropout: dropout rate of every hidden layer in training.
    """

    def __init__(
        self, size: int, width: int, depth: int, logits: int, activation: str, spectral: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.activation, self.dropout = ACTIVATIONS[activation](), Dropout(dropout)
        self.time = TimeMLP(width, spectral, bias=True)
        inputs = [size, *[width] * (depth - 1)]
        self.hidden = ModuleList(LinearMap(a, width, spectral, bias=True) for a in inputs)
        self.times = ModuleList(LinearMap(width, width, spectral) for _ in inputs)
        self.out = LinearMap(width, logits, spectral, bias=True)

    def forward(self, z: Tensor, e: Tensor) -> Tensor:
        """Return f `(B, K)` of z `(B, *shape)` and sinusoids e `(B, 128)`."""
        x, s = z.flatten(1), F.silu(self.time(e))
        for hidden, time in zip(self.hidden, self.times, strict=True):
            x = self.dropout(self.activation(hidden(x) + time(s)))
        f: Tensor = self.out(x)
        return f

    def biases(self, e: Tensor) -> list[Tensor]:
        """Return b_k + V_k s per hidden layer, `(B, width)`."""
        s = F.silu(self.time(e))
        return [hidden.bias + time(s) for hidden, time in zip(self.hidden, self.times, strict=True)]

    @classmethod
    def fold(cls, nets: Sequence[MLPTimeNet], e: Tensor) -> FoldedMLP:
        """Fold S nets of one shape, at the levels that e stands for."""
        biases = [torch.stack(same) for same in zip(*(net.biases(e) for net in nets), strict=True)]
        biases.append(torch.stack([net.out.bias for net in nets]).unsqueeze(1))
        layers = [*zip(*(net.hidden for net in nets), strict=True), [net.out for net in nets]]
        return FoldedMLP([transposed(layer) for layer in layers], biases, nets[0].activation)


class FoldedMLP(nn.Module):
    """S perceptrons of one shape as batched products.

    Arguments:
        weights: per layer, `(S, I, O)`.
        biases: per layer, `(S, B, O)` or one row.
        activation: between layers.
    """

    def __init__(self, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.weights = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in weights)
        # a copy: one level needs no more than one row, and biases may be views of parameters
        self.biases = nn.ParameterList(nn.Parameter(b.clone(), requires_grad=False) for b in biases)

    def forward(self, z: Tensor) -> Tensor:
        """Return f `(B, S, K)` of z `(B, S, *shape)`."""
        x = z.flatten(2).transpose(0, 1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, self.activation(x) if i else x, weight)
        return x.transpose(0, 1)


@recipe
class MLPTime(EnergyRecipe):
    """f(z, t) = Σ_i MLP_i(z_i, t), one perceptron per layer for all levels t, added to every hidden layer.

    This is for the diffusion-learned prior (arXiv 2405.13910) on flat layers, for which the paper has no nets.

    Example:
        >>> from hebm import ImageSpec, TwoLayer
        >>> energy = MLPTime(width=16).build(TwoLayer().build(ImageSpec(1, 28, 28)).layout, levels=3)
        >>> len(energy.nets)
        2
    """

    width: int | tuple[int, ...] = option(128, doc="units of every hidden layer; one number or one per layer", low=1)
    depth: int | tuple[int, ...] = option(
        2, doc="hidden layers; one number or one per latent layer, top first", low=1, high=1000
    )
    activation: str = option(
        "silu", doc="activation between layers (leaky-relu has slope 0.2)", choices=tuple(ACTIVATIONS)
    )
    coordinate: str = option("z", doc=COORDINATE_DOC, choices=COORDINATES)
    zero_init: bool = option(True, doc="start at f = 0, where the prior is its root; not with spectral_norm")
    spectral_norm: bool = option(False, doc="keep the largest singular value of every weight near 1")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> LayerwiseTimeEnergy:
        """Build a net for each layer of this layout, whatever the number of levels.

        Raises `ConfigError` for `zero_init` with `spectral_norm`: a normalised weight cannot be 0.
        """
        if self.zero_init and self.spectral_norm:
            raise ConfigError(
                "prior.energy: zero_init = true and spectral_norm = true exclude each other: a normalised weight "
                "cannot be 0; set prior.energy.zero_init = false"
            )
        widths = per_layer(self.width, len(layout), "prior.energy.width")
        depths = per_layer(self.depth, len(layout), "prior.energy.depth")
        nets = [
            MLPTimeNet(math.prod(shape), width, depth, logits, self.activation, self.spectral_norm)
            for shape, width, depth in zip(seen_shapes(layout, self.coordinate), widths, depths, strict=True)
        ]
        for net in nets:
            started(net.out, self.zero_init)
        return LayerwiseTimeEnergy(nets, self.coordinate, layout, together=True)
