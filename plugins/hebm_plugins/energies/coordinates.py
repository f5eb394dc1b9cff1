"""The inputs of a layer's net, by the name of a coordinate.

    z:              z_i
    u:              u_i = (z_i − μ_i(z_above)) / σ_i(z_above)
    z-given-above:  [z_i, μ_i, σ_i],  μ_i = z_i − σ_i u_i,  side by side as features or channels

Each can be combined with the decoder's feature from which p(z_i | z_above) is computed, `with_feature(coordinate)`.
The net then sees both, flattened and concatenated.

μ_i and σ_i determine p_β(z_i | z_above), so in any backbone they can represent the layers above. They take the place of
the context c(z_above), features of a specific decoder, in NCP-VAE's classifiers r_i(z_i, c(z_above)).

References:
    A Contrastive Learning Approach for Training Variational Autoencoder Priors, arXiv 2010.02917.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hebm.latents import LatentLayout, Latents

Shape = tuple[int, ...]

COORDINATES = ("z", "u", "z-given-above")
"""The names of the inputs of a layer's net."""

COORDINATE_DOC = (
    "input of the nets: latents z, standardised u, or z-given-above, which is z_i with the mean and standard deviation "
    "of p(z_i | above)"
)
"""Description of the option `coordinate`."""

_FEATURE = " with feature"


def with_feature(coordinate: str) -> str:
    """Return the name of the input that combines a coordinate with the decoder's feature at the layer."""
    return coordinate + _FEATURE


def sees(coordinate: str) -> tuple[str, ...]:
    """Return the value of `EnergyFn.sees` for an energy with this coordinate."""
    return ("latents", "features") if coordinate.endswith(_FEATURE) else ("latents",)


def seen(latents: Latents, layout: LatentLayout, coordinate: str) -> tuple[Tensor, ...]:
    """Return the input of each layer's net, `(B, *shape_i)`, top first; `seen_shapes` returns the shapes.

    Arguments:
        latents: u `(B, D)`, and z and σ of every layer.
        layout: splits u.
        coordinate: one of `COORDINATES`, or `with_feature` of it.
    """
    if coordinate.endswith(_FEATURE):
        parts = seen(latents, layout, coordinate.removesuffix(_FEATURE))
        return tuple(_side_by_side(*pair) for pair in zip(parts, latents.features, strict=True))
    if coordinate == "z":
        return latents.z
    u = layout.split(latents.u)
    if coordinate == "u":
        return u
    return tuple(_given_above(*parts) for parts in zip(latents.z, latents.sigma, u, strict=True))


def seen_of(latents: Latents, layout: LatentLayout, coordinate: str, layer: int) -> Tensor:
    """Return `seen` of one layer only, `(B, *shape)`; 0 is the top."""
    if coordinate.endswith(_FEATURE):
        part = seen_of(latents, layout, coordinate.removesuffix(_FEATURE), layer)
        return _side_by_side(part, latents.features[layer])
    if coordinate == "z":
        return latents.z[layer]
    u = layout.split(latents.u)[layer]
    return u if coordinate == "u" else _given_above(latents.z[layer], latents.sigma[layer], u)


def seen_shapes(layout: LatentLayout, coordinate: str) -> tuple[Shape, ...]:
    """Return the input shape of each layer's net, without the batch dimension, top first."""
    if coordinate.endswith(_FEATURE):
        parts = seen_shapes(layout, coordinate.removesuffix(_FEATURE))
        pairs = zip(parts, layout.features, strict=True)
        return tuple((math.prod(part) + math.prod(feature),) for part, feature in pairs)
    times = 3 if coordinate == "z-given-above" else 1
    return tuple((times * shape[0], *shape[1:]) for shape in layout.shapes)


def _side_by_side(part: Tensor, feature: Tensor) -> Tensor:
    """Return both tensors, flattened and concatenated, `(B, d + d_f)`."""
    return torch.cat([part.flatten(1), feature.flatten(1)], dim=1)


def _given_above(z: Tensor, sigma: Tensor, u: Tensor) -> Tensor:
    """Return [z, μ, σ] of one layer; z and u are `(B, *shape)`, and σ is broadcastable to this shape."""
    sigma = sigma.expand_as(z)
    return torch.cat([z, z - sigma * u, sigma], dim=1)
