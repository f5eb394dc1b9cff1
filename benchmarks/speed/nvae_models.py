"""The NVAEs to time, and the published form of their nets and of a chain."""

from __future__ import annotations

import copy
from types import MethodType
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm.building import seeded
from hebm.interfaces import ImageSpec
from hebm.latents import Latents
from hebm.noise import Noise
from hebm_plugins.fast_elu import ELU
from hebm_plugins.nvae.backbone import NVAEBackbone
from hebm_plugins.nvae.cells import Doubling
from hebm_plugins.nvae.ops import InvertedBottleneck, nearest
from hebm_plugins.nvae.recalibration import Recalibration, recalibrate
from hebm_plugins.nvae.recipe import NVAE

B = TypeVar("B", bound=nn.Module)
S2 = 1e-5  # the joint EBM's step: h = s²


class Case(NamedTuple):
    """A case to time.

    Arguments:
        recipe: recipe of the backbone.
        side: side of its images.
        batch: number of chains.
        bar: largest allowed ratio of hebm's step to the published one.
    """

    recipe: NVAE
    side: int
    batch: int
    bar: float


CASES = {
    # 2 scales of 4 groups, 32 channels
    "small": Case(NVAE(groups=4), 32, 8, 1 / 1.8),
    "small-32": Case(NVAE(groups=4), 32, 32, 1 / 2.0),
    # the published widths, fewer groups: 4 of 30, and 2 per scale of 5, 10 and 20
    "cifar10": Case(NVAE(channels=128, scales=1, groups=4), 32, 4, 1.0),
    "celeba-64": Case(NVAE(channels=64, scales=3, groups=2), 64, 2, 1.0),
}
LARGE = NVAE(channels=30, scales=5, groups=1, bits=5)
"""The published width for CelebA-HQ 256 x 256, with 1 group per scale of 4, 4, 4, 8 and 16."""


class GroupEnergies(nn.Module):
    """f = Σ_i f_i(z_i): a strided convolution, the mean over positions and a linear layer for each group.

    Arguments:
        shapes: shapes of the latents of the groups.
        width: number of hidden channels.
    """

    def __init__(self, shapes: tuple[tuple[int, ...], ...], width: int = 16) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(shape[0], width, 4, 2, 1) for shape in shapes)
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in shapes)

    def tilt(self, latents: Latents) -> Tensor:
        """Return the energies f_i of the groups, `(B, G)`."""
        pairs = zip(self.convs, self.heads, latents.z, strict=True)
        return torch.cat([head(F.leaky_relu(conv(z), 0.2).mean((2, 3))) for conv, head, z in pairs], dim=1)


class PublishedBottleneck(InvertedBottleneck):
    """An inverted bottleneck that up-samples first."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, I, H, W)` to `(B, O, H', W')`."""
        x = self.norm(nearest(x) if self.upsample else x)
        x = F.silu(self.expand_norm(self.expand(x)))
        x = F.silu(self.spatial_norm(self.spatial(x)))
        y: Tensor = self.project_norm(self.project(x))
        return y


class PublishedDoubling(Doubling):
    """The skip path of a cell that doubles the resolution, up-sampled before its convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x `(B, C, H, W)` to `(B, C/2, 2H, 2W)`."""
        y: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True))
        return y


def as_published(backbone: B) -> B:
    """Return a copy with torch's own convolutions and ELU; an NVAE also computes in the order of the published code."""
    twin = copy.deepcopy(backbone)
    for module in twin.modules():
        if isinstance(module, InvertedBottleneck):
            module.__class__ = PublishedBottleneck
        elif isinstance(module, Doubling):
            module.__class__ = PublishedDoubling
        elif isinstance(module, ELU):
            module.__class__ = nn.ELU
        elif isinstance(module, nn.Conv2d):
            module._conv_forward = MethodType(nn.Conv2d._conv_forward, module)
        elif isinstance(module, nn.ConvTranspose2d):
            module.forward = MethodType(nn.ConvTranspose2d.forward, module)
    return twin


class Subject(NamedTuple):
    """An NVAE in eval mode as it was trained, in its published form and folded, and energies on its latents."""

    backbone: NVAEBackbone
    published: NVAEBackbone
    folded: NVAEBackbone
    energies: GroupEnergies


def make(recipe: NVAE, side: int) -> Subject:
    """Build a case with initial weights, and with BatchNorm statistics of its samples."""
    with seeded(0, "speed"):
        backbone = recipe.build(ImageSpec(channels=3, height=side, width=side))
        energies = GroupEnergies(backbone.layout.shapes)
    recalibrate(backbone, Noise(0, "statistics"), Recalibration(passes=2, rows=2))
    backbone.eval()
    return Subject(backbone, as_published(backbone), backbone.folded(), energies)


def published_gradient(subject: Subject, parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return ∇_u [Σ f_i(z_i) + Σ log p(z_i | z_above)] per group, as in the published code of the joint EBM.

    Every step also decodes the logits of the image, which are not used. Weight norm and BatchNorm are applied as in
    training, parameters require gradients, and autograd differentiates the Gaussian terms.
    """
    leaves = tuple(part.detach().requires_grad_() for part in parts)
    published = subject.published
    descent = published.descend(leaves[0], lambda i, layer: layer.prior.at(leaves[i]))
    _ = published.decoder.image(descent.carried.state, descent.z[-1])
    log_p = torch.stack([prior.log_prob(z) for prior, z in zip(descent.priors, descent.z, strict=True)]).sum(0)
    latents = Latents(torch.cat([leaf.flatten(1) for leaf in leaves], 1), descent.z, ())
    value = subject.energies.tilt(latents).sum(1) + log_p
    return torch.autograd.grad(value.sum(), leaves)


def published_chain(subject: Subject, u: Tensor, steps: int) -> Tensor:
    """Run the published chain: u per group, with one `torch.randn` for each."""
    generator = torch.Generator().manual_seed(0)
    parts = subject.backbone.layout.split(u)
    for _ in range(steps):
        grads = published_gradient(subject, parts)
        noise = [torch.randn(part.shape, generator=generator) for part in parts]
        parts = tuple(p + 0.5 * S2 * g + S2**0.5 * n for p, g, n in zip(parts, grads, noise, strict=True))
    return subject.backbone.layout.join(parts)
