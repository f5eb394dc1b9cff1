"""What a layer's net sees of latents.

    z:              z_i
    u:              u_i = (z_i − μ_i(z_above)) / σ_i(z_above)
    z-given-above:  [z_i, μ_i, σ_i],  μ_i = z_i − σ_i u_i,  side by side as features or channels

μ_i and σ_i are all that p_β(z_i | z_above) depends on, so they stand for the layers above in any backbone: the context
that NCP-VAE's classifiers r_i(z_i, c(z_above)) are conditioned on, where c are features of one decoder.

References:
    A Contrastive Learning Approach for Training Variational Autoencoder Priors, arXiv 2010.02917.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.latents import LatentLayout, Latents

Shape = tuple[int, ...]

COORDINATES = ("z", "u", "z-given-above")
"""The names of what a layer's net can see."""

COORDINATE_DOC = (
    "what the nets see: latents z, standardised u, or z-given-above: z_i with mean and deviation of p(z_i | above)"
)
"""For the option of that name."""


def seen(latents: Latents, layout: LatentLayout, coordinate: str) -> tuple[Tensor, ...]:
    """Return what the net of each layer sees, `(B, *shape_i)`, top first; shapes are those of `seen_shapes`.

    Arguments:
        latents: u `(B, D)`, and z and σ of every layer.
        layout: splits u.
        coordinate: one of `COORDINATES`.
    """
    if coordinate == "z":
        return latents.z
    u = layout.split(latents.u)
    if coordinate == "u":
        return u
    return tuple(_given_above(*parts) for parts in zip(latents.z, latents.sigma, u, strict=True))


def seen_of(latents: Latents, layout: LatentLayout, coordinate: str, layer: int) -> Tensor:
    """Return `seen` of one layer alone, `(B, *shape)`; 0 is the top."""
    if coordinate == "z":
        return latents.z[layer]
    u = layout.split(latents.u)[layer]
    return u if coordinate == "u" else _given_above(latents.z[layer], latents.sigma[layer], u)


def seen_shapes(layout: LatentLayout, coordinate: str) -> tuple[Shape, ...]:
    """Return the shape of what the net of each layer sees, without the batch dimension, top first."""
    times = 3 if coordinate == "z-given-above" else 1
    return tuple((times * shape[0], *shape[1:]) for shape in layout.shapes)


def _given_above(z: Tensor, sigma: Tensor, u: Tensor) -> Tensor:
    """Return [z, μ, σ] of one layer, all `(B, *shape)` but σ, which may be broadcastable to it."""
    sigma = sigma.expand_as(z)
    return torch.cat([z, z - sigma * u, sigma], dim=1)
