"""The configurations in which hebm's conformance kit checks the priors."""

import attrs
import torch
from hebm.interfaces import LatentLayout
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import seeded

from hebm_flows.recipe import Flow, LayerFlow

SMALL = {"width": 8, "transforms": 2, "bins": 4}
LAYERS = {**SMALL, "kind": "affine", "condition_width": 4}


class Maps(ReferenceBackbone):
    """A backbone of spatial layers with a feature map at the lower one, and a flat feature at the top."""

    def __init__(self):
        super().__init__(LatentLayout(((2, 1, 2), (2, 1, 2))))
        self.layout = attrs.evolve(self.layout, features=((1,), (2, 1, 2)))

    def decoder_features(self, latents):
        """Return ones for the top layer, and the top layer for the one below."""
        return torch.ones_like(latents.u[:, :1]), latents.z[0]


def pytest_hebm_subjects():
    """Return arguments of `hebm.testing.cases` for each prior."""
    layers = {"component": LayerFlow(**LAYERS)}
    maps = {"component": LayerFlow(**LAYERS), "backbone": seeded(Maps)}
    return {"priors:flow": {"component": Flow(**SMALL)}, "priors:layer-flow": [layers, maps]}
