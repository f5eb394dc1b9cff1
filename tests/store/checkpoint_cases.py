"""Checkpoints that the tests save, and whether two are equal."""

import os

import torch

from hebm.store.checkpoints import Checkpoint

RUN = "a" * 32
FILES = [
    "backbone.safetensors",
    "optimizer-prior.safetensors",
    "nothing.safetensors",
    "manifest.json",
    "manifest.sha256",
]


def make(step, value=None, phase="backbone", state=None):
    value = float(step) if value is None else value
    tensors = {
        "backbone": {"w": torch.full((40, 5), value), "n": torch.tensor(step), "half": torch.ones(3).bfloat16()},
        "optimizer-prior": {"w.exp_avg": torch.full((7,), -value)},
        "nothing": {},
    }
    return Checkpoint(
        phase, step, step, tensors, {"skipped": 0, "lr": 0.1, "list": [1, None]} if state is None else state
    )


def same(a, b):
    steps = (a.phase, a.step, a.total_step, a.state) == (b.phase, b.step, b.total_step, b.state)
    return (
        steps
        and {k: list(v) for k, v in a.tensors.items()}.keys() == b.tensors.keys()
        and all(
            a.tensors[s].keys() == b.tensors[s].keys()
            and all(torch.equal(a.tensors[s][n], b.tensors[s][n]) for n in a.tensors[s])
            for s in a.tensors
        )
    )


def names(folder):
    return sorted(os.listdir(folder))


def refuse(message):
    raise AssertionError(f"unexpected warning: {message}")
