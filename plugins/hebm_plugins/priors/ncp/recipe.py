"""The recipe of noise-contrastive priors."""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import Backbone, EnergyRecipe, PriorRecipe, Sampler, build_energy, build_root
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.ncp.prior import LayerDrawing, NCPPrior
from hebm_plugins.samplers.ula import ULA


@recipe
class NCP(PriorRecipe):
    """The noise-contrastive prior of NCP-VAE (arXiv 2010.02917): a classifier per layer, no chain in training.

    Classifier i tells posterior z_i from z_i ~ p_β(z_i|z_above), z_above being the posterior's. It is conditioned on
    the decoder's context as in the paper where the energy sees it: as [z_i, μ_i, σ_i] with
    `energy.coordinate = "z-given-above"` (the default), or as the decoder's feature itself with
    `energy.type = "feature-mlp"`. Later papers drop it (`"z"`): then r_i cannot be the ratio of conditionals, and the
    product is no longer normalised. Draws: `sir` takes one of `proposals` by weight, whose effective share is reported;
    `langevin` runs a chain per layer.
    """

    energy: EnergyRecipe = option(factory=lambda: MLP(coordinate="z-given-above"), doc="log r_i, one per layer")
    sampling: str = option("sir", doc="how a layer is drawn", choices=("sir", "langevin"))
    proposals: int = option(5000, doc="P of each layer and sample, for sir", low=2)
    sampler: Sampler = option(factory=lambda: ULA(steps=40, step_size=0.06), doc="the chain, for langevin")
    root: PriorRecipe = option(factory=Gaussian, doc="draws the context; u ~ N(0, I) given it", renamed_from="base")

    def build(self, backbone: Backbone) -> NCPPrior:
        """Build the prior. Raises `ConfigError` for a root or an energy that does not fit: f_i of each layer."""
        layout, root = backbone.layout, build_root(self.root, backbone)
        instead = 'use prior.energy.type = "feature-mlp", or prior.type = "multi-stage"'
        energy = build_energy(self.energy, layout, sees=("features",), instead=instead)
        if energy.count(layout) != len(layout):
            raise ConfigError(
                f"prior.energy: 'ncp' needs an output for each of {len(layout)} layers, and this energy has "
                f"{energy.count(layout)} in all; use a layer-wise energy such as mlp"
            )
        return NCPPrior(root, energy, layout, LayerDrawing(self.sampling, self.proposals, self.sampler))
