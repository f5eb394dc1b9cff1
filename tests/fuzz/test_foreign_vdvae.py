"""Whatever the files of a VDVAE hold, and whatever their options are: a backbone, or an error of hebm."""

import copy
import json
from collections import OrderedDict
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quiet import QUIET

from hebm.building import build
from hebm.errors import CheckpointError, ConfigError
from hebm.porting import ForeignFile
from hebm.store import foreign
from hebm_plugins.vdvae.official.checkpoint import VDVAECheckpoint

FOLDER = Path(__file__).parents[1] / "vectors" / "vdvae" / "tiny_ffhq256"
STRINGS = {"encoder": "16d4,4x1,4d4,1x2", "decoder": "1x1,4m1,4x1,16m4,16x1"}
ODD = [None, True, -1, 0, 10**200, float("nan"), float("inf"), "x", "", "9" * 30, [], [1], {}, {"step": {}}, ()]
ODD_TENSORS = [torch.ones(()), torch.ones(3), torch.ones(0, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.ones(2).half()]
SETTINGS = ["enc_blocks", "dec_blocks", "dataset", "lr", "n_batch", "warmup_iters", "ema_rate", "grad_clip", "wd"]


@cache
def contents():
    """The contents of the three files of the trained model."""
    names = ("iter-7-model.th", "iter-7-model-ema.th", "iter-7-opt.th")
    return {name: foreign.load(FOLDER / "trained" / name, ()) for name in names}


@cache
def names():
    return sorted(contents()["iter-7-model-ema.th"])


VALUES = st.sampled_from([*ODD, *ODD_TENSORS])
NAMES = st.integers(0, 177).map(lambda i: names()[i]) | st.sampled_from(["decoder.bias_xs.x", "encoder.enc_blocks.²"])
TOKENS = st.sampled_from(
    ["16d4", "4x1", "4d4", "1x2", "1x1", "4m1", "16m4", "16x1", "4", "1x0", "0x1", "x", "4m0", " "]
)
CASES = st.fixed_dictionaries(
    {
        "weights": st.lists(st.tuples(NAMES, VALUES | st.just("drop")), max_size=2),
        "optimizer": st.none()
        | st.tuples(st.sampled_from(["state", "param_groups", "entry", "moment", "group", "params"]), VALUES),
        "log": st.none() | st.lists(st.tuples(st.sampled_from(SETTINGS), st.sampled_from(ODD[:12])), max_size=2),
        "strings": st.none() | st.fixed_dictionaries({k: st.lists(TOKENS, max_size=5).map(",".join) for k in STRINGS}),
        "files": st.lists(st.sampled_from(["iter-7-model.th", "iter-7-opt.th"]), unique=True),
        "preset": st.sampled_from([None, None, None, "cifar10"]),
    }
)


def weights_of(case):
    found = OrderedDict(contents()["iter-7-model-ema.th"])
    for name, value in case["weights"]:
        found.pop(name, None) if value == "drop" else found.update({name: value})
    return found


def optimizer_of(case):
    found = copy.deepcopy(contents()["iter-7-opt.th"])
    if case["optimizer"] is None:
        return found
    where, value = case["optimizer"]
    group = found["param_groups"][0]
    {
        "state": lambda: found.update(state=value),
        "param_groups": lambda: found.update(param_groups=value),
        "entry": lambda: found["state"].update({3: value}),
        "moment": lambda: found["state"][3].update(exp_avg=value),
        "group": lambda: group.update(dict.fromkeys(("lr", "initial_lr", "step", "betas", "eps"), value)),
        "params": lambda: group.update(params=value),
    }[where]()
    return found


def files_of(case):
    found = [ForeignFile("iter-7-model-ema.th", weights_of(case))]
    for name in case["files"]:
        found.append(ForeignFile(name, optimizer_of(case) if name == "iter-7-opt.th" else contents()[name]))
    if case["log"] is not None:
        lines = [{"type": "hparam", "key": key, "value": value} for key, value in case["log"]]
        found.append(ForeignFile("iter-7-log.jsonl", "\n".join(map(json.dumps, lines))))
    return tuple(found)


def read_or_refused(case):
    strings = {} if case["preset"] else {key: text or None for key, text in (case["strings"] or STRINGS).items()}
    kind = VDVAECheckpoint(preset=case["preset"], normalisation="ffhq256", **strings)
    try:
        found = kind.read(files_of(case))
    except (CheckpointError, ConfigError):
        return
    backbone = build(found.experiment, found.images).backbone
    backbone.load_state_dict(dict(found.backbone))
    shapes = {name: value.shape for name, value in backbone.named_parameters()}
    assert all(value.shape == shapes[key.rpartition("/")[0]] for key, value in found.moments.items() if "exp" in key)
    if not case["weights"] and case["strings"] is None and case["log"] is None:
        expected = contents()["iter-7-model-ema.th"]
        assert all(torch.equal(found.backbone[name], expected[name]) for name in expected)


@given(CASES)
@settings(max_examples=25, **QUIET)
def test_files_of_a_vdvae_are_read_or_refused(case):
    read_or_refused(case)


@pytest.mark.slow
@given(CASES)
@settings(max_examples=500, **QUIET)
def test_hundreds_of_files_of_a_vdvae_are_read_or_refused(case):
    read_or_refused(case)
