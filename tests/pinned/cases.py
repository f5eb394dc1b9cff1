"""The backbones and priors whose draws are pinned."""

from collections.abc import Callable

import attrs
import torch

from hebm.interfaces import ImageSpec
from hebm.testing.subjects import image_set, seeded
from hebm_plugins.priors.multi_stage.settings import Contrast, Drawing

from .adapter import fit_statistics, recipe, trained
from .weights import redraw, round_buffers

CLASSES = torch.tensor([0, 2, -1])
ATTRIBUTES = torch.tensor([[0, 1], [1, -1], [-1, -1]])
"""Labels of the three rows of a draw; −1 is any."""
STAGES = ("stage 1", "stage 2", "stage 3")
GAINS = {"context": 1.0, "prior": 1.0}
"""Of the weights, by what is trained; 1.3 for ratios, so that particles have different weights."""
LEVELS = ("level 2", "level 1", "level 0")
DRAWING = ("mode", "factors", "particles", "threshold")
CONTRAST = ("loss", "negatives", "pool", "refresh", "infer_under", "label_weight")

# ---------------------------------------------------------------- backbones

BACKBONES = {
    "two-layer": ({"z_dims": (3, 4), "widths": (6, 4), "prior_width": 5, "inference_width": 7}, ImageSpec(1, 8, 8)),
    "hvae": ({"layers": 2, "z_channels": (3, 1), "channels": 4, "units": 8}, ImageSpec(1, 8, 8)),
    "dvp": ({"latents": (1, 2), "channels": 6, "encoder_blocks": 1, "context_size": 2}, ImageSpec(1, 4, 4)),
}


def backbone(name):
    """Build a backbone in float64."""
    fields, images = BACKBONES[name]
    built = seeded(lambda: recipe("backbones", name, **fields).build(images))
    fit_statistics(built, image_set(images))
    redraw(built.double(), "backbone")
    round_buffers(built)
    return built.eval().requires_grad_(False)


# ---------------------------------------------------------------- priors


@attrs.frozen(eq=False)
class Case:
    """One prior.

    Arguments:
        name: of the registered recipe.
        fields: of the recipe; they are made when they are needed.
        labels: to draw with and to train with, or None.
        after: the stages or levels that draws can stop after.
    """

    name: str
    fields: Callable[[], dict] = dict
    labels: torch.Tensor | None = None
    after: tuple[str, ...] = ()

    def prior(self, backbone):
        """Build the prior on a backbone, in float64 with weights away from the start."""
        made = recipe("priors", self.name, **self.fields())
        prior = seeded(lambda: made.build(backbone)).double()
        for stage in trained(prior):
            redraw(stage.module, stage.name, GAINS.get(stage.name, 1.3))
        round_buffers(prior)
        return prior.eval()


def ula(steps=3, step_size=0.1):
    return recipe("samplers", "ula", steps=steps, step_size=step_size)


def net(name="mlp", **fields):
    return recipe("energies", name, width=5, **fields)


def context_root(**fields):
    """The root that draws a context."""
    return recipe("priors", "dvp", **{"steps": 3, "blocks": 1, **fields})


def _root(on_context):
    return {"root": context_root()} if on_context else {}


def _net(on_context, **fields):
    """An energy, which sees the context where there is one."""
    return recipe("energies", "with-context", energy=net(**fields)) if on_context else net(**fields)


def joint(on_context=False, sampler=ula, **fields):
    return Case("joint", lambda: {"energy": net(), "sampler": sampler(), **fields, **_root(on_context)})


def ncp(on_context=False, **fields):
    def made():
        energy = net(coordinate="z-given-above")
        return {"energy": energy, "proposals": 150, "sampler": ula(2), **fields, **_root(on_context)}

    return Case("ncp", made)


def diffusion(labels=None, on_context=False, **fields):
    def made():
        energy = _net(on_context, name="mlp-time")
        return {"energy": energy, "sampler": ula(2, 0.2), **_labels(labels), **fields, **_root(on_context)}

    return Case("diffusion", made, labels, LEVELS)


def multi_stage(labels=None, on_context=False, **fields):
    def made():
        drawing = {"particles": 4, "threshold": 0.7, **{k: v for k, v in fields.items() if k in DRAWING}}
        contrast = {key: value for key, value in fields.items() if key in CONTRAST}
        small = {
            "stages": fields.get("stages", 2),
            "energy": _net(on_context),
            "sampler": ula(),
            "drawing": Drawing(**drawing),
            "contrast": Contrast(**contrast),
        }
        return {**small, **_labels(labels), **_root(on_context)}

    return Case("multi-stage", made, labels, STAGES[: fields.get("stages", 2)])


def _labels(labels):
    if labels is None:
        return {}
    return {"classes": 3} if labels.ndim == 1 else {"attributes": 2}


def mala():
    return recipe("samplers", "mala", steps=3, step_size=0.1)


def langevin():
    return recipe("samplers", "langevin", steps=3, step_size=0.3, convention="std")


def flat():
    return {"energy": net("mlp-concat", zero_init=False), "sampler": langevin()}


PAPER = {"energy_scale": "paper", "first_level": "paper", "last_level": "paper"}
SINGLE = {"mode": "progressive", "factors": "single"}

TWO_LAYER = {
    "gaussian": Case("gaussian"),
    "joint": joint(),
    "joint-official": joint(target="official"),
    "joint-mala": joint(sampler=mala),
    "lebm": Case("lebm", flat),
    "adaptive-ce": Case("adaptive-ce", lambda: {"stages": 2, **flat()}, None, STAGES[:2]),
    "diffusion": diffusion(),
    "diffusion-paper": diffusion(**PAPER),
    "diffusion-paper-scale": diffusion(energy_scale="paper"),
    "diffusion-paper-first": diffusion(first_level="paper"),
    "diffusion-paper-last": diffusion(last_level="paper"),
    "diffusion-unfolded": diffusion(folded_chains=False),
    "diffusion-classes-first": diffusion(CLASSES),
    "diffusion-classes-every": diffusion(CLASSES, label_levels="every"),
    "diffusion-paper-classes-every": diffusion(CLASSES, label_levels="every", **PAPER),
    "diffusion-attributes": diffusion(ATTRIBUTES, label_levels="every"),
    "ncp-sir": ncp(),
    "ncp-langevin": ncp(sampling="langevin"),
    "multi-stage-joint": multi_stage(),
    "multi-stage-joint-classes": multi_stage(CLASSES),
    "multi-stage-joint-attributes": multi_stage(ATTRIBUTES),
    "multi-stage-product": multi_stage(mode="progressive"),
    "multi-stage-product-classes": multi_stage(CLASSES, mode="progressive"),
    "multi-stage-single": multi_stage(**SINGLE),
    "multi-stage-single-classes": multi_stage(CLASSES, **SINGLE),
    "multi-stage-smc": multi_stage(mode="smc"),
    "multi-stage-smc-always": multi_stage(mode="smc", threshold=1.0),
    "multi-stage-smc-classes": multi_stage(CLASSES, mode="smc"),
    "multi-stage-smc-classes-three": multi_stage(CLASSES, mode="smc", stages=3),
    "multi-stage-smc-attributes": multi_stage(ATTRIBUTES, mode="smc"),
    "multi-stage-per-layer": multi_stage(loss="per-layer"),
    "multi-stage-per-layer-classes": multi_stage(CLASSES, loss="per-layer", label_weight=0.5),
    "multi-stage-pool": multi_stage(negatives="pool", pool=70, refresh=2),
    "multi-stage-smc-pool": multi_stage(mode="smc", negatives="pool", pool=5),
    "multi-stage-posterior": multi_stage(negatives="posterior", pool=7, infer_under="current"),
    "multi-stage-current": multi_stage(infer_under="current"),
}

HVAE = {
    "gaussian": Case("gaussian"),
    "joint": joint(),
    "joint-official": joint(target="official"),
    "diffusion-classes-every": diffusion(CLASSES, label_levels="every"),
    "ncp-sir": ncp(),
    "ncp-langevin": ncp(sampling="langevin"),
    "multi-stage-joint": multi_stage(),
    "multi-stage-product-classes": multi_stage(CLASSES, mode="progressive"),
    "multi-stage-smc-classes": multi_stage(CLASSES, mode="smc"),
}

DISCRETE = {"schedule": "cosine", "time": "discrete", "prediction": "velocity", "stable": True, "dropout": 0.2}

DVP = {
    "dvp": Case("dvp", lambda: {"steps": 3, "blocks": 1}),
    "dvp-discrete": Case("dvp", lambda: {"steps": 4, "blocks": 1, "learn_gamma_min": True, **DISCRETE}),
    "joint": joint(on_context=True),
    "diffusion": diffusion(on_context=True),
    "diffusion-classes-every": diffusion(CLASSES, on_context=True, label_levels="every"),
    "ncp-sir": ncp(on_context=True),
    "ncp-langevin": ncp(on_context=True, sampling="langevin"),
    "multi-stage-joint": multi_stage(on_context=True),
    "multi-stage-product-classes": multi_stage(CLASSES, on_context=True, mode="progressive"),
    "multi-stage-smc": multi_stage(on_context=True, mode="smc"),
    "multi-stage-smc-classes": multi_stage(CLASSES, on_context=True, mode="smc"),
}

CASES = {
    (name, case): made
    for name, priors in (("two-layer", TWO_LAYER), ("hvae", HVAE), ("dvp", DVP))
    for case, made in priors.items()
}
