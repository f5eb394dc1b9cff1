"""The models to time, and the published form of a chain on the same nets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hebm.building import seeded
from hebm.interfaces import ImageSpec
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.joint import Joint, JointPrior
from hebm_plugins.two_layer.backbone import TwoLayerBackbone
from hebm_plugins.two_layer.recipe import TwoLayer


class Subject(NamedTuple):
    """A backbone, its prior, and the number of chains."""

    backbone: TwoLayerBackbone
    prior: JointPrior
    batch: int


def _build(batch: int, energy: MLP, z_dims: tuple[int, ...], width: int = 128, depth: int = 2) -> Subject:
    # prior chains do not use the generator, so it is small
    recipe = TwoLayer(z_dims=z_dims, prior_width=width, prior_depth=depth, widths=(8,), inference="none")
    with seeded(0, "speed"):
        backbone = recipe.build(ImageSpec(channels=1, height=8, width=8))
        return Subject(backbone, Joint(energy=energy).build(backbone), batch)


def _official() -> Subject:
    energy = MLP(width=(100, 200), depth=(2, 3), activation="leaky-relu", zero_init=False)
    return _build(100, energy, (100, 128), 200, 4)


MODELS: dict[str, Callable[[], Subject]] = {
    # one latent layer of 128 numbers, energy 128-200-1
    "mlp": lambda: _build(100, MLP(width=200, depth=1, zero_init=False), (128,)),
    # two such layers, and p(z_1|z_2) 128-200-256
    "small": lambda: _build(100, MLP(width=200, depth=1, zero_init=False), (128, 128), 200, 1),
    # the defaults of `two-layer` and `mlp`: z 16 and 32
    "default": lambda: _build(64, MLP(zero_init=False), (16, 32)),
    # the joint EBM's published sizes: z 100 and 128, p(z_1|z_2) 4 × 200, energies 2 × 100 and 3 × 200
    "official": _official,
}


def deep(layers: int, batch: int) -> Subject:
    """Build L layers of 32 numbers, with all nets of the default size."""
    return _build(batch, MLP(zero_init=False), (32,) * layers)


def users_log_tilt(subject: Subject, u: Tensor) -> Tensor:
    """Return Σ f(T(u)) over chains, a scalar, as a user writes it for these nets: T in plain torch, then the nets."""
    backbone, total = subject.backbone, u.new_zeros(())
    above: Tensor | None = None
    for i, (part, f) in enumerate(zip(u.split(backbone.layout.sizes, dim=1), subject.prior.energy.nets, strict=True)):
        if above is None:
            z = backbone.top_std * part
        else:
            conditional = backbone.conditionals[i - 1]
            mean, s = conditional.net(above).chunk(2, dim=1)
            std = (conditional.bound * torch.tanh(s / conditional.bound)).exp() + conditional.offset
            z = mean + std * part
        value = f(z).sum()
        total, above = value if above is None else total + value, z
    return total


def users_chain(subject: Subject, h: float, u: Tensor, generator: torch.Generator, steps: int) -> Tensor:
    """Run ULA as a user writes it for these nets: the Gaussian term by hand, one `autograd.grad`, `torch.randn`."""
    root = math.sqrt(h)
    for _ in range(steps):
        u = u.detach().requires_grad_()
        (grad,) = torch.autograd.grad(users_log_tilt(subject, u), u)
        u = u.detach()
        u = u + 0.5 * h * (grad - u) + root * torch.randn(u.shape, generator=generator)
    return u


def published_chain(subject: Subject, steps: int, s: float, generator: torch.Generator) -> list[Tensor]:
    """Run the joint EBM's prior chain as in the published code. Return z per layer `(B, d_i)`, top first.

    It moves z from N(0, I) and differentiates the Gaussian terms by autograd, while parameters require gradients. It
    also draws an unused sample of p(z_i|z_{i+1}) at each call.
    """
    backbone, nets = subject.backbone, subject.prior.energy.nets

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    def gaussian(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        return (-0.5 * ((value - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)).sum(1)

    z = [torch.randn(subject.batch, d, generator=generator) for d in backbone.layout.sizes]
    top = torch.full((1, backbone.layout.sizes[0]), backbone.top_std)
    for _ in range(steps):
        z = [part.detach().requires_grad_() for part in z]
        value = gaussian(z[0], torch.zeros_like(top), top)
        for above, part, conditional in zip(z[:-1], z[1:], backbone.conditionals, strict=True):
            mean, std = conditional(above)
            _ = mean + std * noise(std)
            value = value + gaussian(part, mean, std)
        for part, net in zip(z, nets, strict=True):
            value = value + net(part).squeeze(1)
        grads = torch.autograd.grad(value.sum(), z)
        z = [(part + 0.5 * s**2 * grad + s * noise(part)).detach() for part, grad in zip(z, grads, strict=True)]
    return z
