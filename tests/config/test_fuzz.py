"""R11: whatever is in the file, loading gives an experiment or an error that names its place."""

import random
import re

import pytest

from hebm.config.experiment import Experiment
from hebm.errors import HebmError

TOKENS = [
    "true",
    "false",
    "nan",
    "-inf",
    "1.9",
    "-1",
    "0",
    "1e400",
    "99999999999999999999",
    "'text'",
    '"\\u0000"',
    "[]",
    "{}",
    "[[]]",
    "[1, 'a']",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "0x" + "f" * 5000,
    "9" * 5000,
    '"' + "x" * 300 + '"',
    "[" * 300,
    "{a.b = 1}",
    "{ type = 'walk' }",
    "{ type = 3 }",
    "'net'",
    "[{ type = 'count' }, 1]",
    '"""\n"""',
    "'tilted'",
    "\ufeff",
    "\x00",
    "=",
    "]",
]
PLACE = re.compile(r"(.*exp\.toml(:\d+)?|--set .*): .*", re.DOTALL)


def mutate(text, draw):
    """One mutation of a file, or several."""
    lines = text.split("\n")
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        at = draw.randrange(len(lines))
        key, _, value = lines[at].partition("=")
        kind = draw.randrange(9)
        if kind == 0:
            lines[at] = f"{key}= {draw.choice(TOKENS)}"
        elif kind == 1:
            lines.insert(at, draw.choice(lines))
        elif kind == 2:
            del lines[at]
        elif kind == 3 and key:
            cut = draw.randrange(len(key))
            lines[at] = key[:cut] + draw.choice("xyz_-.\"' 0[") + key[cut + 1 :] + ("=" + value if value else "")
        elif kind == 4:
            other = draw.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 5:
            lines.insert(
                at, f"[{draw.choice(['data', 'prior.sampler', 'prior.energy', 'run', 'x.y', 'train.backbone.z'])}]"
            )
        elif kind == 6:
            lines.insert(
                at, f"{draw.choice(['type', 'steps', 'seed', 'metrics', 'a.b', 'energy'])} = {draw.choice(TOKENS)}"
            )
        elif kind == 7:
            lines[at] = lines[at][: draw.randrange(len(lines[at]) + 1)]
        elif kind == 8:
            lines[at] = f"{draw.choice(lines).partition('=')[0]}={value}"
        lines = lines or [""]
    return "\n".join(lines)


def survive(write, text, overrides=()):
    """Whether it loaded; fails for any other error than one with a place."""
    path = write(text)
    try:
        experiment = Experiment.load(path, overrides)
    except HebmError as refused:
        error = refused
    else:
        assert isinstance(experiment, Experiment)
        return True
    assert error.exit_status == 2
    first, *rest = str(error).split("\n  ")
    assert all(PLACE.fullmatch(line) for line in rest or [first]), error
    return False


def fuzz(write, valid, seed, count):
    draw = random.Random(seed)
    loaded = sum(survive(write, mutate(valid, draw)) for _ in range(count))
    assert 0 < loaded < count / 2


def test_hundreds_of_mutations_load_or_are_refused_with_their_place(write, valid):
    fuzz(write, valid, seed=0, count=400)


@pytest.mark.slow
def test_thousands_of_mutations_load_or_are_refused_with_their_place(write, valid):
    fuzz(write, valid, seed=1, count=10_000)


def test_mutated_overrides_are_applied_or_refused_with_their_place(write, valid):
    draw = random.Random(2)
    keys = [
        "seed",
        "prior.sampler.steps",
        "data.type",
        "data",
        "prior.energy",
        "a.b",
        "evaluate.metrics",
        '"x y"',
        "",
        ".",
    ]
    for _ in range(200):
        survive(write, valid, [f"{draw.choice(keys)}{draw.choice(['=', '=', ''])}{draw.choice(TOKENS)}"])


@pytest.mark.parametrize(
    "text", ["", "\n", "[" * 5000, "a." * 5000 + "a = 1", "a = " + "[" * 5000, "a = " + "{b=" * 2000]
)
def test_an_empty_or_deeply_nested_file_is_refused(write, text):
    assert not survive(write, text)
