"""Configurations with values at and beyond the bounds that recipes state, generated from the registered recipes."""

import copy
import math
import re
import types
import typing
from functools import cache
from typing import Literal

import attrs
import tomli

from hebm import registry
from hebm.config.experiment import Experiment
from hebm.config.recipes import fields_of, group_of, is_recipe
from hebm.config.values import is_union
from hebm.config.writing import dumps

KEY = re.compile(r"\b(name|seed|(data|backbone|prior|train|evaluate|run)\b[.:]?\w*)")
"""What a message must have: a key, or the table that it is in."""

DIGITS = {"type": "digits", "batch_size": 50, "limit": 200}
TWO_LAYERS = {"type": "two-layer", "z_dims": [3, 4], "generator": "mlp", "widths": [8]}
TINY = {"type": "nvae-tiny", "pad": 4, "channels": 4, "latent_channels": 2, "groups": 1, "blocks": 1}
FEW = {"samples": 64, "temperature_samples": 64, "batch_size": 64}
STEPS = {"backbone": {"steps": 4}, "prior": {"steps": 4}}
NET = {"type": "mlp", "width": 6}
ULA = {"type": "ula", "steps": 2}
PCN = {"type": "pcn-mala", "steps": 2}
POOL = {"start_proposals": 2, "sampler": PCN, "contrast": {"pool": 64}}
BASES = {
    "joint": {"backbone": TWO_LAYERS, "prior": {"type": "joint", "energy": NET, "sampler": ULA}},
    "gaussian": {"backbone": {"type": "hvae", "channels": 4, "units": 8}, "prior": "gaussian"},
    "lebm": {"backbone": {**TWO_LAYERS, "z_dims": [5]}, "prior": {"type": "lebm", "energy": NET, "sampler": ULA}},
    "adaptive-ce": {
        "backbone": {**TWO_LAYERS, "z_dims": [5]},
        "prior": {"type": "adaptive-ce", "energy": NET, "sampler": ULA},
    },
    "stages": {"backbone": TWO_LAYERS, "prior": {"type": "multi-stage", "energy": NET, "sampler": ULA}},
    "image": {"backbone": TINY, "prior": {"type": "image-contrast", **POOL, "energy": {"channels": 4, "width": 6}}},
    "feature": {"backbone": TINY, "prior": {"type": "feature-contrast", **POOL, "energy": {"channels": 4, "width": 6}}},
    "score": {"backbone": TINY, "prior": {"type": "score", "channels": 4, "width": 6, "steps": 4}},
    "diffusion": {
        "backbone": TWO_LAYERS,
        "prior": {"type": "diffusion", "energy": {"type": "mlp-time", "width": 6}, "sampler": ULA},
    },
    "ncp": {
        "backbone": TINY,
        "prior": {"type": "ncp", "energy": {"type": "feature-mlp", "width": 6}, "proposals": 4, "sampler": ULA},
    },
    "dvp": {
        "backbone": {"type": "dvp", "latents": [1, 1], "channels": 4, "encoder_blocks": 1, "statistics": 200},
        "prior": {"type": "dvp", "channels": 16, "blocks": 1, "steps": 4},
    },
    "published": {
        "backbone": "two-layer-joint",
        "prior": {"type": "joint", "sampler": ULA},
        "train": {"type": "joint", "steps": 4, "posterior_sampler": {"type": "langevin", "steps": 2}},
    },
    "joint-scheme": {
        "backbone": TWO_LAYERS,
        "prior": {"type": "joint", "energy": NET, "sampler": ULA},
        "train": {"type": "joint", "steps": 4, "posterior_sampler": {"type": "langevin", "steps": 2}},
    },
    "variational": {
        "backbone": TWO_LAYERS,
        "prior": {"type": "joint", "energy": NET, "sampler": ULA},
        "train": {"type": "variational", "steps": 4},
    },
}
LARGE = [2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**30]
INTEGERS = [0, 1, -1, 2, 3, 5, 7, 8, 16, 17, 33, 64, *LARGE]
FLOATS = [0.0, -0.0, 0.5, 1.0, 1.5, -1.0, 1e-30, -1e-30, 5e-324, 1e9, 1e30, 1e31, 1e308, math.nan, math.inf, -math.inf]
TEXTS = ["", "a", "x" * 300, "a/../b", "\x00", "\x1b]0;t\x07", "caf\udce9", "$HOME", "stage 1", "0"]
WRONG = [True, "text", 0.5, 3, [], [[1]], {}, {"type": "nothing"}, {"unknown": 1}, {"type": 3}, ["a", 1]]
ELSEWHERE = {"type": "arrays", "path": "none.npz"}, {"type": "image-folder", "root": "none"}
"""Data sets whose files are not there; the others could be downloaded."""
LARGE_NETS = {"published"}
"""Bases of which a step takes seconds."""
LARGEST_STEPS = 8
"""The largest integer of a configuration that is trained: most integers multiply the time of a step."""


@cache
def table(base):
    """A whole configuration, defaults included; not to be changed."""
    inner = {"name": "extreme", "data": DIGITS, "train": STEPS, "evaluate": FEW, **BASES[base]}
    return tomli.loads(dumps(Experiment.from_table(copy.deepcopy(inner))))


@cache
def places(base):
    """The keys of a configuration, dotted, with their fields, those of components inside components included."""
    return [*_places(Experiment.from_table(table(base)), "")]


def _places(recipe, prefix):
    for field in fields_of(type(recipe)):
        yield f"{prefix}{field.name}", field
        value = getattr(recipe, field.name)
        if attrs.has(type(value)):
            yield from _places(value, f"{prefix}{field.name}.")


def _fitting(annotation, bounds):
    """Values of a field's type: at, just inside and just beyond its bounds, and extreme ones."""
    if is_union(annotation):
        return [value for member in typing.get_args(annotation) for value in _fitting(member, bounds)]
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        return _tuples(typing.get_args(annotation), bounds)
    if annotation in (None, types.NoneType):
        return []
    group = group_of(annotation)
    if group or is_recipe(annotation):
        return _components(group)
    return [*bounds.get("choices", ()), *_scalars(annotation, bounds)]


def _tuples(members, bounds):
    items = _fitting(members[0], bounds) or [0]
    return [[], *([item] for item in items), items[:2], items[:1] * 3, items[:1] * 200]


def _components(group):
    if group == "hebm_datasets":
        return list(ELSEWHERE)
    if group == "hebm_backbones":
        return ["two-layer", "nvae-tiny", "nothing", {"type": "hvae", "channels": 4, "units": 4}]
    return [{}, *registry.names(group), "nothing"] if group else [{}]


def _scalars(annotation, bounds):
    if annotation is bool:
        return [True, False]
    if annotation is str:
        return TEXTS
    ends = [bounds[name] for name in ("low", "above", "high") if name in bounds]
    near = [end + step for end in ends for step in (-1, 0, 1)]
    if annotation is int:
        return [*INTEGERS, *(int(value) for value in near)]
    return [*FLOATS, *near, *(end * factor for end in ends for factor in (1 - 1e-12, 1 + 1e-12)), 0, 2]


def changed(inner, path, value):
    """A copy of a table with a key set; a bare name on the way becomes a table with that type."""
    first, *rest = path
    around = {"type": inner} if isinstance(inner, str) else inner if isinstance(inner, dict) else {}
    return {**around, first: changed(around.get(first, {}), rest, value) if rest else value}


def extreme(pick, trained=False):
    """A configuration with one to three extreme values.

    Arguments:
        pick: chooses an element of a sequence.
        trained: whether it will be trained: integers that are allowed are then small.
    """
    base = pick(sorted(BASES.keys() - LARGE_NETS if trained else BASES))
    made = table(base)
    for _ in range(pick([1, 1, 1, 2, 3])):
        key, field = pick(places(base))
        chosen = WRONG if pick(range(8)) == 0 else _fitting(field.type, field.metadata)
        short = [value for value in chosen if not (trained and _takes_long(value, field.metadata))]
        made = changed(made, key.split("."), pick(short))
    return made


def _takes_long(value, bounds):
    if isinstance(value, list):
        return len(value) > 3 or any(_takes_long(item, bounds) for item in value)
    number = isinstance(value, int) and not isinstance(value, bool)
    return number and value > LARGEST_STEPS and value <= bounds.get("high", 2**31 - 1)
