"""Small VAEs as users write them, on images of 8×8 pixels."""

import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

import hebm
from hebm import Noise, option, recipe
from hebm.data.images import ArrayImages
from hebm.interfaces import BackboneRecipe

SPEC = hebm.ImageSpec(1, 8, 8)


class GridVAE(nn.Module):
    """Average colours of a 2×2 grid, times 3; it reconstructs the images of `grids` without training."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(3.0))
        self.log_variance = nn.Parameter(torch.tensor(-4.0))

    def encode(self, x):
        mean = self.factor * F.adaptive_avg_pool2d(x, 2)
        return mean, self.log_variance.expand_as(mean)

    def decode(self, z):
        return F.interpolate(z / self.factor, (8, 8))


class Encoder(nn.Module):
    """Mean and log-variance of flat latents."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 6))

    def forward(self, x):
        return self.net(x).chunk(2, dim=1)


class Decoder(nn.Module):
    """Images in [0, 1] of flat latents."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, z):
        return self.net(z)


class NormalDecoder(Decoder):
    """The same images with a learned deviation, as a distribution."""

    def __init__(self):
        super().__init__()
        self.log_std = nn.Parameter(torch.tensor(-1.0))

    def forward(self, z):
        return Normal(self.net(z), self.log_std.exp(), validate_args=False)


def grids(n=40):
    """n images of 2×2 squares of random grey values, as a data set."""
    values = Noise(0, "grids").uniform(n, 1, 2, 2)
    return ArrayImages(F.interpolate(2 * values - 1, (8, 8)))


def grid_vae(**keys):
    """The recipe of a `GridVAE`."""
    vae = GridVAE()
    return hebm.AutoEncoder(vae.encode, vae.decode, **{"latent_shape": (1, 2, 2), **keys})


@recipe
class OwnGrid(BackboneRecipe):
    """A plugin's backbone: a VAE of average colours."""

    factor: float = option(3.0, doc="scale of the latents", above=0)
    weights: str | None = option(None, doc="file of weights", path=True)
    standardise: str = option("none", doc="mode", choices=("none", "scalar", "channel"))

    def build(self, images):
        """Build the VAE."""
        vae = GridVAE()
        with torch.no_grad():
            vae.factor.fill_(self.factor)
        made = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2), standardise=self.standardise)
        return made.build(images).with_weights(self.weights)


@recipe
class UntrainedGrid(OwnGrid):
    """The same VAE with other weights."""

    factor: float = option(5.0, doc="scale of the latents", above=0)


@recipe
class OwnFlat(BackboneRecipe):
    """A plugin's backbone: flat latents, two modules, images in [0, 1]."""

    likelihood: str = option("gaussian", doc="likelihood", choices=("gaussian", "bernoulli", "decoder"))

    def build(self, images):
        """Build the VAE."""
        decoder = NormalDecoder() if self.likelihood == "decoder" else Decoder()
        keys = {"likelihood": self.likelihood, "range": (0, 1), "standardise": "scalar"}
        return hebm.AutoEncoder(Encoder(), decoder, latent_shape=(3,), **keys).build(images)
