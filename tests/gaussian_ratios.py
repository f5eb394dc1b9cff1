"""Ratios of Gaussians: a backbone, energies and a sampler for which everything is known in closed form."""

import torch
from torch import nn

from hebm.config.recipes import recipe
from hebm.interfaces import Backbone, EnergyFn, Info, Sampler
from hebm.latents import LatentLayout, Latents
from hebm.likelihoods import GaussianPixels
from hebm.noise import Noise
from hebm_plugins.samplers.ula import Point


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def noise(*path):
    """In large blocks, which are drawn faster."""
    return Noise(0, *path, dtype=torch.float64, block=4096)


class Walk(Backbone):
    """z_L = u_L, z_i = z_{i+1} + u_i, `dim` numbers a layer; with one layer z = u."""

    def __init__(self, layers=1, dim=1):
        super().__init__()
        self.layout = LatentLayout(((dim,),) * layers)

    def latents(self, u, context=None):
        z = torch.stack(self.layout.split(u)).cumsum(0)
        return Latents(u, tuple(z), tuple(torch.ones_like(part) for part in z))

    def invert(self, z, context=None):
        u = [z[0], *(below - above for above, below in zip(z[:-1], z[1:], strict=True))]
        return Latents(self.layout.join(u), tuple(z), tuple(torch.ones_like(part) for part in z))

    def likelihood(self, latents):
        return GaussianPixels(latents.z[-1].reshape(len(latents.u), 1, 1, -1), 1.0)


class Quadratic(EnergyFn):
    """f_i = z_iᵀ Q_i z_i + l_i·z_i + c_i, which starts at 0; without Q if `linear`."""

    def __init__(self, layers=1, dim=1, linear=False):
        super().__init__()
        self.q = torch.zeros(layers, dim, dim).double() if linear else nn.Parameter(torch.zeros(layers, dim, dim))
        self.l, self.c = nn.Parameter(torch.zeros(layers, dim)), nn.Parameter(torch.zeros(layers))
        self.double()

    def forward(self, latents, t=None):
        z = torch.stack(latents.z, dim=1)
        return (torch.einsum("bli,lij,blj->bl", z, self.q, z) + (z * self.l).sum(2) + self.c).unsqueeze(2)

    def set(self, quadratic, linear, constant):
        """The coefficients of the one layer."""
        with torch.no_grad():
            self.q[0], self.l[0], self.c[0] = quadratic, linear, constant
        return self


def coefficients(q, p):
    """Q, l and c of log q − log p, each a Gaussian (mean, covariance)."""
    precisions = [torch.linalg.inv(cov) for _, cov in (q, p)]
    linear = [precision @ mean for (mean, _), precision in zip((q, p), precisions, strict=True)]
    constants = [-0.5 * (mean @ slope + cov.logdet()) for (mean, cov), slope in zip((q, p), linear, strict=True)]
    return -0.5 * (precisions[0] - precisions[1]), linear[0] - linear[1], constants[0] - constants[1]


@recipe
class Exact(Sampler):
    """A chain of one step that forgets where it was: a draw of N(mean, L Lᵀ), whatever the density."""

    steps: int = 1
    mean: tuple[float, ...] = ()
    factor: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of(cls, mean, cov):
        return cls(mean=tuple(mean.tolist()), factor=tuple(map(tuple, torch.linalg.cholesky(cov).tolist())))

    def init(self, density, u):
        return Point(u)

    def step(self, density, state, noise):
        u = tensor(self.mean) + noise.normal @ tensor(self.factor).T
        return Point(u), Info(u[:, 0], u)
