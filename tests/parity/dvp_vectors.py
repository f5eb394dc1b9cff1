"""What parity tests of DVP-VAE share: the vector files, noise by path, and names of weights mapped to ours."""

import functools
import json
from pathlib import Path

import numpy as np
import torch

VECTORS = Path(__file__).parent.parent / "vectors" / "dvp"
DCT, EXACT, NETWORK, GRADIENT = 1e-4, 1e-8, 3e-4, 2e-3


@functools.cache
def load(name):
    """A vector file: numbers as float64 tensors by key, texts decoded from JSON."""
    with np.load(VECTORS / f"{name}.npz") as file:
        return {key: _read(file[key]) for key in file.files}


def _read(array):
    if array.dtype.kind in "fiu":
        return torch.from_numpy(np.asarray(array, dtype=np.float64))
    return json.loads(str(array))


def close(actual, expected, tolerance):
    """max |a − b| / (1 + |b|) within a tolerance."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    error = ((actual.detach() - expected).abs() / (1 + expected.abs())).max()
    assert error <= tolerance, f"differs by {error:.3g}, allowed {tolerance:.3g}"


class PathNoise:
    """Noise whose draws are recorded tensors, by the names it was derived with."""

    def __init__(self, tensors, path=()):
        self.tensors, self.path = tensors, path

    def derive(self, *path):
        return PathNoise(self.tensors, (*self.path, *path))

    def normal(self, rows, *shape):
        out = self.tensors[self.path]
        assert out.shape == (rows, *shape), (self.path, out.shape, (rows, *shape))
        return out

    uniform = normal


def conv(weights, name, target):
    """State-dict entries of one layer."""
    return {f"{target}.weight": weights[f"{name}.w"], f"{target}.bias": weights[f"{name}.b"]}


def weights_of(vectors, prefix="w."):
    return {key.removeprefix(prefix): value for key, value in vectors.items() if key.startswith(prefix)}


def unet_state(weights):
    """The state dict of our U-net."""
    state = {
        **conv(weights, "time0", "time.first"),
        **conv(weights, "time1", "time.second"),
        **conv(weights, "stem", "stem"),
        **conv(weights, "attn.gn", "attention.norm"),
        **conv(weights, "attn.qkv", "attention.qkv"),
        **conv(weights, "attn.proj", "attention.proj"),
        **conv(weights, "final.gn", "norm"),
        **conv(weights, "final.conv", "out"),
    }
    parts = {"gn1": "norm1", "conv1": "conv1", "emb": "film", "gn2": "norm2", "conv2": "conv2", "skip": "skip"}
    for kind, target in (("down", "down"), ("mid", "middle"), ("up", "up")):
        for i in range(10):
            for theirs, ours in parts.items():
                if f"{kind}{i}.{theirs}.w" in weights:
                    state |= conv(weights, f"{kind}{i}.{theirs}", f"{target}.{i}.{ours}")
    return state


def _block(weights, name, target, first):
    """A residual block: four convolutions between activations, the first at this place, and perhaps a skip."""
    state = {}
    for i in range(4):
        state |= conv(weights, f"{name}.conv{i}", f"{target}.net.{2 * i + first}")
    if f"{name}.skip.w" in weights:
        state |= conv(weights, f"{name}.skip", f"{target}.skip")
    return state


def backbone_state(weights, config):
    """The state dict of our backbone."""
    state = {
        **conv(weights, "enc.stem", "encoder.stem"),
        **conv(weights, "agg", "head.mix"),
        **conv(weights, "out", "head.out"),
        "pseudo_input.log_var": weights["u.logvar"][0],
        "pseudo_input.scale": weights["u.scale"][0],
    }
    for j in range(len(config["scales"])):
        for k in range(config["enc_blocks"]):
            state |= _block(weights, f"enc.scale{j}.block{k}", f"encoder.scales.{j}.{k}", 1)
    count = sum(config["scales"])
    for i in range(count):
        theirs, ours = f"dec.{i + 1}", f"layers.{i}"
        state |= _block(weights, f"{theirs}.prior", f"{ours}.prior", 0)
        state |= _block(weights, f"{theirs}.post", f"{ours}.posterior", 0)
        state |= conv(weights, f"{theirs}.zup", f"{ours}.zup")
        if i + 1 < count:
            for k in range(config["dec_blocks"]):
                state |= _block(weights, f"{theirs}.res{k}", f"{ours}.res.{k}", 0)
    return state
