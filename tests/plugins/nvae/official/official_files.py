"""The two small checkpoints of the published code, and what it means that two such files are equal."""

import argparse
from collections import OrderedDict
from pathlib import Path

import torch

from hebm.store import foreign

VECTORS = Path(__file__).parents[3] / "vectors" / "nvae"
TINY = {name: VECTORS / name / "checkpoint.pt" for name in ("tiny_cifar", "tiny_mnist")}
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "weight_normalized")


def content(name="tiny_mnist", **args):
    """A file's content, with some arguments changed."""
    found = foreign.load(TINY[name], (argparse.Namespace,))
    vars(found["args"]).update(args)
    return found


def trained(name="tiny_mnist", step=78000, tensor_step=False):
    """A file's content, with an optimiser's state as training leaves it."""
    found, state, generator = content(name), {}, torch.Generator().manual_seed(0)
    parameters = [value for key, value in found["state_dict"].items() if not key.endswith(BUFFERS)]
    for index, parameter in enumerate(parameters):
        moments = [torch.rand(parameter.shape, generator=generator) for _ in range(2)]
        state[index] = {
            "step": torch.tensor(float(step)) if tensor_step else step,
            "exp_avg": moments[0],
            "exp_inf": moments[1],
        }
    found["optimizer"]["state"] = state
    return found


def edited(found, **entries):
    """The content with other entries; of the state dict with None for those to leave out."""
    state = OrderedDict((key, value) for key, value in found["state_dict"].items() if entries.get(key, "") is not None)
    state.update({key: value for key, value in entries.items() if value is not None})
    return {**found, "state_dict": state}


def difference(one, other, path=""):
    """The first place where two contents differ in type, order, or bits; None if they do not."""
    if type(one) is not type(other):
        return f"{path}: {type(one)} and {type(other)}"
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
        return None if same else f"{path}: tensors"
    if isinstance(one, argparse.Namespace):
        return difference(vars(one), vars(other), f"{path}/vars")
    if isinstance(one, dict):
        if list(one) != list(other):
            return f"{path}: keys {list(one)[:5]} and {list(other)[:5]}"
        metadata = difference(getattr(one, "_metadata", None), getattr(other, "_metadata", None), f"{path}/_metadata")
        return metadata or next(filter(None, (difference(one[k], other[k], f"{path}/{k}") for k in one)), None)
    if isinstance(one, (list, tuple)):
        pairs = enumerate(zip(one, other, strict=False))
        inner = (difference(a, b, f"{path}/{i}") for i, (a, b) in pairs)
        return f"{path}: length" if len(one) != len(other) else next(filter(None, inner), None)
    return None if one == other else f"{path}: {one!r} and {other!r}"
