"""A foreign backbone, as a third party would write it: that of the published two-stage toy."""

import torch
from torch import nn
from torch.nn import functional as F

from hebm.interfaces import Backbone
from hebm.latents import LatentLayout, Latents
from hebm.likelihoods import GaussianPixels


def soft_clamp(v):
    return 5 * torch.tanh(v / 5)


class Toy(Backbone):
    """Three spatial layers that depend on all layers above through one feature map."""

    def __init__(self, channels, features, side):
        super().__init__()
        shapes = ((channels, side, side), (channels, side, side), (channels, 2 * side, 2 * side))
        self.layout = LatentLayout(shapes)
        self.prior_ftr = nn.Parameter(torch.zeros(features, side, side))
        self.comb0, self.comb1, self.comb2 = (nn.Conv2d(features + channels, features, 3, padding=1) for _ in range(3))
        self.samp1, self.samp2 = (nn.Conv2d(features, 2 * channels, 3, padding=1) for _ in range(2))
        self.head = nn.Conv2d(features, 3, 1)

    def _walk(self, take):
        """Top-down; `take(i, mean, std)` gives z_i."""
        z, sigma, ft = [], [], self.prior_ftr.unsqueeze(0)
        for i, combine in enumerate((self.comb0, self.comb1, self.comb2)):
            mean, std = ft.new_zeros(()), ft.new_full((), 1.01)
            if i:
                mean, log_std = (soft_clamp(v) for v in (self.samp1, self.samp2)[i - 1](ft).chunk(2, dim=1))
                std = log_std.exp() + 0.01
            z.append(take(i, mean, std))
            sigma.append(std)
            ft = F.silu(combine(torch.cat([ft.expand(len(z[-1]), -1, -1, -1), z[-1]], dim=1)))
            ft = F.interpolate(ft, scale_factor=2) if i == 1 else ft
        return tuple(z), tuple(sigma), ft

    def latents(self, u, context=None):
        parts = self.layout.split(u)
        z, sigma, ft = self._walk(lambda i, mean, std: mean + std * parts[i])
        return Latents(u, z, sigma, carried=ft)

    def invert(self, z, context=None):
        means = []
        z, sigma, ft = self._walk(lambda i, mean, std: (means.append(mean), z[i])[1])
        u = [(part - mean) / std for part, mean, std in zip(z, means, sigma, strict=True)]
        return Latents(self.layout.join(u), z, sigma, carried=ft)

    def likelihood(self, latents):
        return GaussianPixels(torch.tanh(self.head(latents.carried)), 0.3)
