"""The small checkpoints of the published VDVAE code, and the shapes of the published models."""

import gzip
import json
from collections import OrderedDict
from pathlib import Path

import torch

from hebm.porting import ForeignFile
from hebm.store import foreign

VECTORS = Path(__file__).parents[3] / "vectors" / "vdvae"
TINY = ("tiny_cifar", "tiny_imagenet64", "tiny_ffhq256")
TRAINED = VECTORS / "tiny_ffhq256" / "trained"
DATA_SETS = {"cifar10": "cifar10", "imagenet64": "imagenet64", "ffhq_256": "ffhq256"}


def config(name):
    return json.loads((VECTORS / name / "config.json").read_text())


def options(name):
    """The options of `VDVAECheckpoint` that a small model needs."""
    found = config(name)
    strings = {"encoder": found["enc_blocks"], "decoder": found["dec_blocks"]}
    return {**strings, "normalisation": DATA_SETS[found["dataset"]]}


def weights(name):
    return foreign.load(VECTORS / name / "model-ema.th", ())


def file(content, name="iter-7-model-ema.th"):
    return ForeignFile(name, content)


def trained(kind):
    """A file of the small model that was trained for seven steps: "model", "model-ema" or "opt"."""
    name = f"iter-7-{kind}.th"
    return ForeignFile(name, foreign.load(TRAINED / name, ()))


def log(name="tiny_ffhq256", step=9, **changes):
    """A log in the form of the published code."""
    settings = {"lr": 1e-3, "wd": 0.02, "n_batch": 4, "skip_threshold": -1.0, **config(name), **changes}
    lines = [{"type": "hparam", "key": key, "value": value} for key, value in settings.items()]
    lines += [{"type": "train_loss", "step": at, "epoch": 0, "elbo": 1.0} for at in (step - 1, step)]
    return ForeignFile("iter-7-log.jsonl", "\n".join(map(json.dumps, lines)))


def manifest(preset):
    """The names and shapes of a published model, in order."""
    with gzip.open(VECTORS / "manifests" / f"{preset}.json.gz") as found:
        return {name: tuple(shape) for name, shape in json.load(found)["state_dict"].items()}


def like(shapes):
    """Weights of these shapes that take no memory."""
    return OrderedDict((name, torch.zeros(1).expand(shape)) for name, shape in shapes.items())
