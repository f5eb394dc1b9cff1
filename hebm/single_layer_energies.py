"""Recognise a prior whose energies each see a single layer of a deep hierarchy, and say how to find out what it can do.

Such energies cannot see how a layer depends on the layers above it, and the prior hole of a deep backbone can be there.
What is said is a hint for users and never an error.
"""

from __future__ import annotations

import torch

from hebm import defaults
from hebm.interfaces import PriorLearner, tilt_of
from hebm.latents import LatentLayout
from hebm.trained import evaluating

SHALLOW = 3
"""Number of layers up to which such energies closed a part of the gap where this project measured them."""


def single_layer_energies(prior: PriorLearner, layout: LatentLayout) -> int:
    """Return L if the prior's tilt sees latents alone and has one energy for each of the L layers, else 0."""
    tilt = tilt_of(prior)
    if tilt is None or tilt.sees:
        return 0
    with evaluating(prior):
        energies = tilt.f(layout.zeros(next(prior.parameters(), torch.zeros(())))).shape[1]
    return len(layout) if energies == len(layout) else 0


def advice(layers: int) -> str:
    """Return a hint about a prior with an energy for each of several layers; "" where there is nothing to say."""
    if layers <= SHALLOW:
        return ""
    return (
        f"Each energy of this prior sees one of {layers} layers; on the small NVAEs measured here such energies closed "
        f"nothing of the gap, and hebm analyse RUN {defaults.DIAGNOSIS.name} shows what they can close on a run with "
        "this backbone."
    )
