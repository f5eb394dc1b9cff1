"""Detect priors whose energies each see a single layer of a deep hierarchy, and advise users about them.

Such energies cannot see how a layer depends on the layers above it, where the prior hole of a deep backbone can be. The
advice is a note, never an error.
"""

from __future__ import annotations

import torch

from hebm import defaults
from hebm.interfaces import PriorLearner, tilt_of
from hebm.latents import LatentLayout
from hebm.trained import evaluating

SHALLOW = 3
"""The largest number of layers for which such energies closed a part of the gap in this project's measurements."""


def single_layer_energies(prior: PriorLearner, layout: LatentLayout) -> int:
    """Return L if the prior's tilt sees only latents and has one energy for each of the L layers, else 0."""
    tilt = tilt_of(prior)
    if tilt is None or tilt.sees:
        return 0
    with evaluating(prior):
        energies = tilt.f(layout.zeros(next(prior.parameters(), torch.zeros(())))).shape[1]
    return len(layout) if energies == len(layout) else 0


def advice(layers: int) -> str:
    """Return advice about a prior with one energy for each of `layers` layers; "" if none is needed."""
    if layers <= SHALLOW:
        return ""
    return (
        f"Each energy of this prior sees one of {layers} layers; on small NVAEs such energies closed "
        f"nothing of the gap. hebm analyse RUN {defaults.DIAGNOSIS.name} shows what they can close on a run with "
        "this backbone."
    )
