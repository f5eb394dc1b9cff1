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
    """p(z) = Π_i r_i(z_i; z_above) p_β(z_i | z_above): the noise-contrastive prior of NCP-VAE (arXiv 2010.02917).

    A classifier per layer learns log r_i without chains. It separates posterior draws z_i from draws of p_β(z_i |
    z_above), where z_above is the posterior's in both. In the paper the classifier also sees the decoder's context.
    Here the energy decides what it sees:

    | `energy` | the classifier sees |
    |---|---|
    | `coordinate = "z-given-above"` (default) | [z_i, μ_i, σ_i] |
    | `type = "feature-mlp"` | z_i and the decoder's feature |
    | `coordinate = "z"`, as in later papers | z_i alone: r_i is not the ratio of conditionals, nor p(z) normalised |

    `sampling = "sir"` draws `proposals` candidates per layer and keeps one by weight; the effective sample size is
    reported. `sampling = "langevin"` runs a chain per layer.

    Example:
        >>> from hebm import ImageSpec, Noise, TwoLayer
        >>> backbone = TwoLayer(z_dims=(2, 8)).build(ImageSpec(1, 28, 28))
        >>> prior = NCP(proposals=100).build(backbone)
        >>> prior.sample(backbone, 4, Noise(0)).u.shape
        torch.Size([4, 10])
    """

    energy: EnergyRecipe = option(factory=lambda: MLP(coordinate="z-given-above"), doc="log r_i, one output per layer")
    sampling: str = option("sir", doc="how to draw a layer given the layers above", choices=("sir", "langevin"))
    proposals: int = option(5000, doc='P, candidates for each layer of a sample with sampling = "sir"', low=2)
    sampler: Sampler = option(
        factory=lambda: ULA(steps=40, step_size=0.06), doc='the chain of each layer with sampling = "langevin"'
    )
    root: PriorRecipe = option(
        factory=Gaussian, doc="the prior that draws the context, with u ~ N(0, I) given it", renamed_from="base"
    )

    def build(self, backbone: Backbone) -> NCPPrior:
        """Build the prior. Raises `ConfigError` if the root does not fit, or the energy lacks one output per layer."""
        layout, root = backbone.layout, build_root(self.root, backbone)
        instead = 'use prior.energy.type = "feature-mlp", or prior.type = "multi-stage"'
        energy = build_energy(self.energy, layout, sees=("features",), instead=instead)
        if energy.count(layout) != len(layout):
            raise ConfigError(
                f"prior.energy: 'ncp' needs one output for each of the {len(layout)} layers, and this energy has "
                f"{energy.count(layout)} in total; use a layer-wise energy such as mlp"
            )
        return NCPPrior(root, energy, layout, LayerDrawing(self.sampling, self.proposals, self.sampler))
