"""Whatever a published checkpoint holds: a run folder with its weights, or an error. No code, no half folder."""

import argparse
import copy
import os
import pathlib
import tempfile
from collections import Counter, OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from in_time import in_time
from quiet import QUIET

from hebm.errors import HebmError
from hebm.porting import import_checkpoint
from hebm.runs import open_run
from hebm.store import foreign

SOURCE = Path(__file__).parents[1] / "vectors" / "nvae" / "tiny_mnist" / "checkpoint.pt"
DTYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.complex64, torch.bool]
PREFIXES = ["module.", "_orig_mod.", "module._fsdp_wrapped_module.", "ema.", "model."]


class Runs:
    """Unpickled, it would make the folder `owned` in the working directory."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


def own_end():
    inner = [1]
    inner.append(inner)
    return inner


ODD = {
    "path": pathlib.PurePosixPath("a/b"),
    "windows path": pathlib.PureWindowsPath("a/b"),
    "numpy": np.float64(0.5),
    "numpy text": np.str_("x"),
    "numpy date": np.datetime64("2020-01-01"),
    "array": np.arange(5),
    "objects": np.array([None, {}], dtype=object),
    "device": torch.device("cuda"),
    "dtype": torch.float32,
    "size": torch.Size([1, 2]),
    "tensor": torch.tensor([3]),
    "tensors": torch.ones(2, 2),
    "meta": torch.ones(2, device="meta"),
    "expanded": torch.ones(1).expand(10**13),
    "counter": Counter("ab"),
    "none": None,
    "text": "x" * 999,
    "surrogate": "\ud800\n\x1b[31m",
    "bytes": b"x",
    "complex": 1j,
    "negative": -1,
    "huge": 10**200,
    "nan": float("nan"),
    "infinite": float("inf"),
    "true": True,
    "list": [1, (2, {"a": [None]})],
    "in itself": own_end(),
    "type": int,
}
CODE = {"code": Runs(), "function": os.getcwd, "class": argparse.ArgumentParser, "module": torch.nn.Identity()}
VALUES = st.sampled_from(sorted(ODD))


@cache
def base():
    return foreign.load(SOURCE, (argparse.Namespace,))


def fresh():
    """A copy of the content, whose tensors are those of the file."""
    found = base()
    state = OrderedDict(found["state_dict"])
    rest = {key: copy.deepcopy(value) for key, value in found.items() if key != "state_dict"}
    return {**rest, "state_dict": state}


KEYS = st.integers(0, len(base()["state_dict"]) - 1)
ARGUMENTS = st.sampled_from([*sorted(vars(base()["args"])), "a_new_one"])
PLACES = st.sampled_from(["epoch", "global_step", "optimizer", "scheduler", "args", "state_dict", "new"])


def drop(found, state, i, _):
    del state[list(state)[i]]


def rename(found, state, i, prefix):
    name = list(state)[i]
    state[prefix + name] = state.pop(name)


def prefixed(found, state, _, prefix):
    found["state_dict"] = OrderedDict((prefix + name, value) for name, value in state.items())


def retyped(found, state, i, dtype):
    name = list(state)[i]
    state[name] = torch.as_tensor(base()["state_dict"].get(name, 0)).to(dtype)


def all_retyped(found, state, _, dtype):
    state.update({name: value.to(dtype) for name, value in state.items() if is_small(value)})


def is_small(value):
    return isinstance(value, torch.Tensor) and value.numel() < 10**6


def reshaped(found, state, i, shape):
    state[list(state)[i]] = torch.ones(shape)


def broken(found, state, i, value):
    name = list(state)[i]
    state[name] = torch.full_like(torch.as_tensor(base()["state_dict"].get(name, 0)).float(), value)


def odd_weight(found, state, i, kind):
    state[list(state)[i]] = ODD[kind]


CHANGES = st.one_of(
    st.tuples(st.just(drop), KEYS, st.none()),
    st.tuples(st.just(rename), KEYS, st.sampled_from([*PREFIXES, "x"])),
    st.tuples(st.just(prefixed), KEYS, st.sampled_from(PREFIXES)),
    st.tuples(st.just(retyped), KEYS, st.sampled_from(DTYPES)),
    st.tuples(st.just(all_retyped), KEYS, st.sampled_from(DTYPES)),
    st.tuples(st.just(reshaped), KEYS, st.sampled_from([(), (0,), (3, 3), (1, 1, 1, 1, 1)])),
    st.tuples(st.just(broken), KEYS, st.sampled_from([float("nan"), float("inf"), 1e30])),
    st.tuples(st.just(odd_weight), KEYS, VALUES),
)
ARGUED = st.tuples(ARGUMENTS, VALUES)
PLACED = st.tuples(PLACES, VALUES)
DAMAGE = st.none() | st.tuples(st.sampled_from(["cut", "flip", "append"]), st.floats(0, 1, exclude_max=True))
SAVED = st.sampled_from([{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
NAMES = st.sampled_from([None, None, "my_faces", "celeba_64", "", "\x1b[31m", 7])
CASES = st.fixed_dictionaries(
    {
        "weights": st.lists(CHANGES, max_size=2),
        "args": st.lists(ARGUED, max_size=2),
        "places": st.lists(PLACED, max_size=1),
        "code": st.none()
        | st.none()
        | st.tuples(st.sampled_from(sorted(CODE)), st.sampled_from(["args", "new", "deep"])),
        "dataset": NAMES,
        "damage": DAMAGE,
        "saved": SAVED,
    }
)


def content_of(case):
    found = fresh()
    for change, i, value in case["weights"]:
        if found["state_dict"]:
            change(found, found["state_dict"], i % len(found["state_dict"]), value)
    if case["dataset"] is not None:
        found["args"].dataset = case["dataset"]
    for name, kind in case["args"]:
        setattr(found["args"], name, ODD[kind])
    if case["code"]:
        kind, where = case["code"]
        if where == "args":
            found["args"].evil = CODE[kind]
        found |= {"new": {"new": CODE[kind], "deep": [({"x": [CODE[kind]]},)]}[where]} if where != "args" else {}
    for place, kind in case["places"]:
        found[place] = ODD[kind]
    return found


def damaged(path, damage):
    if damage is None:
        return
    how, where = damage
    data = bytearray(path.read_bytes())
    place = int(where * len(data))
    if how == "cut":
        data = data[:place]
    elif how == "flip":
        data[place] ^= 1 << place % 8
    else:
        data += b"x" * (1 + place % 99)
    path.write_bytes(data)


def imported_or_refused(case):
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source, target = work / "in.pt", work / "runs" / "x"
        torch.save(content_of(case), source, **case["saved"])
        damaged(source, case["damage"])
        before = os.getcwd()
        os.chdir(work)
        try:
            with in_time():
                outcome = outcome_of(source, target)
        finally:
            os.chdir(before)
        sound(case, outcome, work)


def outcome_of(source, target):
    try:
        return import_checkpoint("nvae", source, target)
    except HebmError as error:
        return error


def sound(case, outcome, work):
    inside = {path.name for path in work.iterdir()}
    if isinstance(outcome, HebmError):
        assert inside == {"in.pt"}, inside
        runs_code = bool(case["code"]) and not case["damage"] and is_still_there(case)
        assert not runs_code or "asks to run code" in str(outcome), outcome
        assert bool(case["code"]) or "asks to run code" not in str(outcome), outcome
        return
    assert inside == {"in.pt", "runs"}
    assert {path.name for path in (work / "runs").iterdir()} == {"x"}
    assert not case["code"] or not is_still_there(case)
    if not case["weights"] and not (case["damage"] and case["saved"]):
        own, whole = outcome.converted.backbone, expected()
        assert own.keys() == whole.keys()
        assert all(torch.equal(own[name], whole[name]) for name in whole), "other weights, in silence"
    assert open_run(work / "runs" / "x").model.sample(1).isfinite().all()


def is_still_there(case):
    """Whether the code is in the content, not replaced by something else."""
    replaced = {place for place, _ in case["places"]}
    return not replaced & ({"args"} if case["code"][1] == "args" else {"new"})


@cache
def expected():
    with tempfile.TemporaryDirectory() as folder:
        return import_checkpoint("nvae", SOURCE, Path(folder) / "x").converted.backbone


@given(CASES)
@settings(max_examples=12, **QUIET)
def test_a_foreign_checkpoint_is_imported_or_refused(case):
    imported_or_refused(case)


@pytest.mark.slow
@given(CASES)
@settings(max_examples=500, **QUIET)
def test_hundreds_of_foreign_checkpoints_are_imported_or_refused(case):
    imported_or_refused(case)
