"""Time-aware energies on a cheap backbone, and the published form of a conditional chain on the same nets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hebm.building import seeded
from hebm.densities import ConditionalPrior
from hebm.interfaces import Backbone
from hebm.latents import LatentLayout, Latents
from hebm.likelihoods import PixelDistribution
from hebm.noise import Noise
from hebm.tilts import Tilt
from hebm_plugins.energies.conv_time import ConvTime
from hebm_plugins.energies.layerwise_time import FoldedLayerwise, LayerwiseTimeEnergy
from hebm_plugins.energies.mlp_time import MLPTime

LEVELS = 3
# published for T = 3: α and σ of the step to level t + 1, the noise of level t over that of level 0, at b = 3e-5
ALPHA = (0.72213238, 0.38626501, 0.02277645)
SIGMA = (0.69175489, 0.92238785, 0.99974058)
ENERGY_SCALE = (1.4356e-5, 1.7657e-3, 2.8794e-3)
RECOVERY = (1.0, 1.0, 0.0)


class LightBackbone(Backbone):
    """z_i = μ_i + σ_i u_i, where μ and log σ are a linear map of the spatial mean of the layer above.

    It has neither an inverse nor images, since prior chains need only the latents.

    Arguments:
        layout: layout of the latents.
    """

    def __init__(self, layout: LatentLayout) -> None:
        super().__init__()
        self.layout = layout
        channels = [shape[0] for shape in layout.shapes]
        self.maps = nn.ModuleList(nn.Linear(a, 2 * b) for a, b in zip(channels[:-1], channels[1:], strict=True))

    def latents(self, u: Tensor, context: Tensor | None = None) -> Latents:
        """Return T(u), layer by layer."""
        parts = self.layout.split(u)
        z, sigma = [parts[0] * 1.01], [parts[0].new_full((), 1.01)]
        for linear, part in zip(self.maps, parts[1:], strict=True):
            raw = linear(z[-1].flatten(2).mean(2) if z[-1].ndim > 2 else z[-1])
            mean, log_std = raw.view(*raw.shape, *[1] * (part.ndim - 2)).chunk(2, dim=1)
            sigma.append(log_std.exp() + 0.01)
            z.append(mean + sigma[-1] * part)
        return Latents(u, tuple(z), tuple(sigma))

    def invert(self, z: Sequence[Tensor], context: Tensor | None = None) -> Latents:
        """Raise: the benchmark does not need it."""
        raise NotImplementedError

    def likelihood(self, latents: Latents) -> PixelDistribution:
        """Raise: the benchmark does not need it."""
        raise NotImplementedError


class Case(NamedTuple):
    """A case to time.

    Arguments:
        recipe: recipe of the energies.
        shapes: shapes of the latents, top first.
        batch: number of chains.
        bar: largest allowed ratio of hebm's step to the leanest loop; None if it is only reported.
    """

    recipe: ConvTime | MLPTime
    shapes: tuple[tuple[int, ...], ...]
    batch: int
    bar: float | None = 1.10


_PUBLISHED = ((20, 8, 8), (20, 8, 8), (20, 16, 16))
_SMALL = ((4, 8, 8), (4, 8, 8), (4, 16, 16))
CASES = {
    "cifar10": Case(ConvTime(), _PUBLISHED, 8),
    "celeba": Case(ConvTime(net="plain"), _PUBLISHED, 8),
    "small": Case(ConvTime(channels=8), _SMALL, 16),
    "small-plain": Case(ConvTime(net="plain", channels=8), _SMALL, 16),
    # steps take a millisecond, so the overhead of a general sampler (value, b_t, √b_t) is visible
    "flat": Case(MLPTime(zero_init=False), ((16,), (32,)), 64, None),
}


class Subject(NamedTuple):
    """A conditional chain before its first step.

    Arguments:
        backbone: frozen backbone, which computes T.
        energy: unfolded energy, whose parameters require gradients.
        t: level of each chain, `(B,)`.
        above: u_{t+1}, the start of the chains, `(B, D)`.
        alpha, sigma, scale, recovery: coefficients of the levels, `(B, 1)`.
    """

    backbone: LightBackbone
    energy: LayerwiseTimeEnergy
    t: Tensor
    above: Tensor
    alpha: Tensor
    sigma: Tensor
    scale: Tensor
    recovery: Tensor


def make(case: Case) -> Subject:
    """Build a case with initial weights. The levels alternate over chains, as in training."""
    layout = LatentLayout(case.shapes)
    with seeded(0, "speed"):
        backbone = LightBackbone(layout).requires_grad_(False)
        energy = case.recipe.build(layout, levels=LEVELS).eval()
    t = torch.arange(case.batch) % LEVELS
    above = Noise(0, "start").normal(case.batch, layout.dim)
    coefficients = (torch.tensor(values)[t, None] for values in (ALPHA, SIGMA, ENERGY_SCALE, RECOVERY))
    return Subject(backbone, energy, t, above, *coefficients)


def density_of(subject: Subject, folded: FoldedLayerwise) -> ConditionalPrior:
    """Return the density of hebm's chain, whose sampler has step size 1."""

    s = subject
    tilt = Tilt(lambda latents: folded(latents).squeeze(2), (s.energy,))
    return ConditionalPrior(s.backbone, tilt, s.above, s.alpha, s.sigma, s.recovery, s.scale, s.scale)


def published_gradient(subject: Subject, u: Tensor) -> Tensor:
    """Return ∇_u log p(u_t | u_{t+1}) as in the published code: every term by autograd, without caches between steps.

    Spectral norm, time embedding and its linear maps are evaluated at every step, and parameters require gradients.
    """
    s, leaf = subject, u.detach().requires_grad_()
    f = s.energy(s.backbone.latents(leaf), s.t).sum((1, 2)) / s.scale.squeeze(1)
    prior = -0.5 * leaf.square().sum(1)
    recovery = -0.5 * (s.recovery * (s.alpha * leaf - s.above).square() / s.sigma.square()).sum(1)
    return torch.autograd.grad((f + prior + recovery).sum(), leaf)[0]


def published_chain(subject: Subject, noise: Noise, steps: int) -> Tensor:
    """Run the published chain from u_{t+1}, with steps of size b_t."""
    u, root = subject.above, subject.scale.sqrt()
    for _ in range(steps):
        grad = published_gradient(subject, u)
        u = u + 0.5 * subject.scale * grad + root * noise.normal(*u.shape)
    return u


def leanest_chain(subject: Subject, folded: FoldedLayerwise, noise: Noise, steps: int) -> Tensor:
    """Run the same chain by hand: half the gradient of f, and a linear drift whose coefficients are computed once."""
    s, u = subject, subject.above
    pull = s.recovery * s.alpha / s.sigma.square()
    keep, towards, root = 1 - 0.5 * s.scale * (1 + pull * s.alpha), 0.5 * s.scale * pull * s.above, s.scale.sqrt()
    for _ in range(steps):
        leaf = u.detach().requires_grad_()
        (grad,) = torch.autograd.grad(folded(s.backbone.latents(leaf)).sum(), leaf)
        u = keep * u + towards + 0.5 * grad + root * noise.normal(*u.shape)
    return u


def folded_apart(energy: LayerwiseTimeEnergy, t: Tensor) -> FoldedLayerwise:
    """Return the folded energy that evaluates each layer separately."""
    energy.together = False
    folded = energy.folded(t)
    energy.together = True
    return folded
