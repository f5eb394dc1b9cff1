"""Evaluations of learned priors on the linear two-layer generator, untrained but tilted."""

import tempfile
from pathlib import Path

import torch
from tiny_models import LinearBackbone, RootPrior, tiny_evaluation

from hebm.densities import frozen
from hebm.noise import Noise
from hebm.testing.subjects import perturbed, seeded
from hebm.training.phases import start_stage
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.energies.mlp_time import MLPTime
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Drawing
from hebm_plugins.priors.ncp.recipe import NCP
from hebm_plugins.samplers.pcn import PCN
from hebm_plugins.samplers.ula import ULA

_CACHE = tempfile.TemporaryDirectory()
RECIPES = {
    "joint": Joint(energy=MLP(width=8), sampler=ULA(steps=8, step_size=0.1)),
    "started": MultiStage(stages=2, energy=MLP(width=8), sampler=ULA(steps=4, step_size=0.1), start_proposals=6),
    "pcn": Joint(energy=MLP(width=8), sampler=PCN(steps=8)),
    "multi-stage": MultiStage(stages=2, energy=MLP(width=8), sampler=ULA(steps=4, step_size=0.1)),
    "progressive": MultiStage(
        stages=2, energy=MLP(width=8), sampler=ULA(steps=4, step_size=0.1), drawing=Drawing(mode="progressive")
    ),
    "smc": MultiStage(
        stages=2, energy=MLP(width=8), sampler=ULA(steps=4, step_size=0.1), drawing=Drawing(mode="smc", particles=4)
    ),
    "diffusion": Diffusion(levels=3, energy=MLPTime(width=8), sampler=ULA(steps=4, step_size=1.0)),
    "ncp": NCP(
        energy=MLP(width=8, coordinate="z-given-above"), sampling="langevin", sampler=ULA(steps=4, step_size=0.1)
    ),
    "sir": NCP(energy=MLP(width=8, coordinate="z-given-above"), sampling="sir", proposals=8),
}


def evaluation(prior="joint", **options):
    """With a prior of this name, or with the root. All tests of a process share the trained extractors."""
    backbone = LinearBackbone()
    made = (
        RootPrior(backbone.layout)
        if prior == "root"
        else perturbed(seeded(lambda: RECIPES[prior].build(backbone)), 0.1)
    )
    with frozen(backbone):
        for stage in made.stages():
            start_stage(stage, backbone, Noise(0, "begin"))
    return tiny_evaluation(Path(_CACHE.name), prior=made, **{"samples": 128, "batch_size": 64, **options})


def finite(section):
    """Whether all numbers of a section, None left out, are finite."""
    found, left = [], [section.numbers]
    while left:
        item = left.pop()
        left += list(item.values()) if isinstance(item, dict) else list(item) if isinstance(item, list) else []
        found += [item] if isinstance(item, float) else []
    return bool(torch.tensor(found).isfinite().all())


def every_file_is_there(section, folder):
    return all((folder / picture.file).is_file() for picture in section.pictures)
