"""Components that fail on purpose: a plugin's module, and an import for tests in this process."""

import os

import torch

from hebm.config.recipes import option, recipe
from hebm.errors import DataError
from hebm.interfaces import EnergyFn
from hebm_plugins.datasets.digits import Digits
from hebm_plugins.priors.joint import Joint, JointPrior


class Poison(EnergyFn):
    """An energy whose output is NaN while `on`."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.on = inner, False

    def forward(self, latents, t=None):
        f = self.inner(latents, t)
        return f * torch.nan if self.on else f


class FailingPrior(JointPrior):
    def objective(self, backbone, posterior, noise, progress, labels=None):
        mine = self.rank < 0 or self.rank == int(os.environ.get("RANK", "0"))
        self.energy.on = mine and self.first <= progress.step + 1 <= self.last
        return super().objective(backbone, posterior, noise, progress, labels)


@recipe
class Failing(Joint):
    """The joint prior with an energy that is NaN in some steps of its phase."""

    first: int = option(1, doc="first bad step, the first being 1")
    last: int = option(10**9, doc="last bad step")
    rank: int = option(-1, doc="the process it happens on; -1 is all")

    def build(self, backbone):
        whole = Joint(energy=self.energy, sampler=self.sampler).build(backbone)
        prior = FailingPrior(whole.root, Poison(whole.energy), whole.sampler)
        prior.first, prior.last, prior.rank = self.first, self.last, self.rank
        return prior


class LateErrorImages:
    """Images that cannot be read on the second process once training has started."""

    def __init__(self, images):
        self.images, self.reads = images, 0

    def __getattr__(self, name):
        return getattr(self.images, name)

    def __len__(self):
        return len(self.images)

    def read(self, index):
        self.reads += 1
        if self.reads > 5 and os.environ.get("RANK") == "1":
            raise DataError("image-17.png is damaged; replace it")
        return self.images.read(index)


@recipe
class LateError(Digits):
    """Digits whose reading fails on one of two processes."""

    def source(self, split):
        return LateErrorImages(super().source(split))
