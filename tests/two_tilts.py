"""A prior of two stages, f = f_1 + f_2, for tests of what happens between phases."""

from real_runs import train

from hebm import registry
from hebm.config.recipes import recipe
from hebm.gaussian import Gaussian
from hebm.interfaces import EnergyFn, Stage
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.joint import Joint, JointPrior


class Sum(EnergyFn):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, latents, t=None):
        return self.first(latents) + self.second(latents)


class TwoTiltsPrior(JointPrior):
    def stages(self):
        return Stage("first", self.energy.first, self.objective), Stage("second", self.energy.second, self.objective)


@recipe
class TwoTilts(Joint):
    """Two energies, trained one after another."""

    def build(self, backbone):
        base = Gaussian().build(backbone)
        nets = [MLP(width=4, zero_init=False).build(backbone.layout) for _ in range(2)]
        return TwoTiltsPrior(base, Sum(*nets), self.sampler)


def train_with_two_tilts(argument):
    registry.register("hebm_priors", "two-tilts", TwoTilts)
    try:
        train(argument["table"], argument["folder"])
    finally:
        registry.unregister("hebm_priors", "two-tilts")
