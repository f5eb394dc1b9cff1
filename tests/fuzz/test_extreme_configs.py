"""R11: a value of the right type, however extreme, gives a model or an error that names the key."""

import re
from functools import cache

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st
from in_time import in_time
from quiet import QUIET

from hebm import pipeline
from hebm.config.experiment import Experiment
from hebm.config.writing import dumps
from hebm.errors import HebmError
from hebm.memory import OutOfMemory

DATA = {"type": "digits", "batch_size": 50}
NVAE = {"type": "nvae-tiny", "pad": 4, "channels": 4, "latent_channels": 2}
BASES = {
    "joint": {
        "backbone": {"type": "two-layer", "z_dims": [4, 8], "generator": "mlp", "widths": [16]},
        "prior": "joint",
    },
    "stages": {
        "backbone": {"type": "hvae", "channels": 4, "units": 8},
        "prior": {"type": "multi-stage", "energy": "mlp"},
    },
    "image": {"backbone": NVAE, "prior": "image-contrast"},
    "score": {"backbone": NVAE, "prior": "score"},
    "diffusion": {"backbone": NVAE, "prior": {"type": "diffusion", "energy": "mlp-time"}},
    "ncp": {"backbone": NVAE, "prior": {"type": "ncp", "energy": "feature-mlp"}},
    "dvp": {"backbone": {"type": "dvp", "latents": [1, 1]}, "prior": {"type": "dvp", "channels": 16}},
}
NUMBERS = [0, 1, -1, 2, 3, 7, 1000, 1001, 2**31 - 1, 2**31, 2**63, 10**30]
NUMBERS += [0.0, 0.5, 1.0, 1e-30, -1e-30, 1e9, 1e30, 1e31, 1e308]
KEY = re.compile(r"\b(name|seed|(data|backbone|prior|train|evaluate|run)\.\w+)")


def table(base):
    return {"name": "extreme", "data": DATA, **BASES[base]}


@cache
def keys(base):
    """The keys of all numbers of a configuration, defaults included, with their type."""
    whole = tomli.loads(dumps(Experiment.from_table(table(base))))
    return [(key, type(value)) for key, value in flat(whole) if type(value) in (int, float)]


def flat(inner, prefix=""):
    for key, value in inner.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def with_value(inner, path, value):
    """A copy of a table with a key set; a bare name on the way becomes a table with that type."""
    first, *rest = path
    around = {"type": inner} if isinstance(inner, str) else inner
    return {**around, first: with_value(around.get(first, {}), rest, value) if rest else value}


@st.composite
def extremes(draw):
    base = draw(st.sampled_from(sorted(BASES)))
    key, kind = draw(st.sampled_from(keys(base)))
    return base, key, draw(st.sampled_from([n for n in NUMBERS if kind is float or isinstance(n, int)]))


def error_of(base, key, value):
    """The error of a configuration with this value; None if it makes a model."""
    with in_time():
        try:
            pipeline.assemble(Experiment.from_table(with_value(table(base), key.split("."), value)))
        except HebmError as error:
            return error
    return None


def survives(base, key, value):
    error = error_of(base, key, value)
    assert error is None or error.exit_status == 2 or "data" in key, error
    assert error is None or KEY.search(str(error)) or isinstance(error, OutOfMemory), (key, value, str(error))


@given(extremes())
@settings(max_examples=8, **QUIET)
def test_an_extreme_value_is_used_or_refused_by_name(case):
    survives(*case)


@pytest.mark.slow
@given(extremes())
@settings(max_examples=2000, **QUIET)
def test_thousands_of_extreme_values_are_used_or_refused_by_name(case):
    survives(*case)
