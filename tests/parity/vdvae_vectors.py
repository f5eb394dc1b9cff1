"""The test vectors of VDVAE: three small models with the published code's numbers, and how they are thinned."""

import json
from pathlib import Path

import torch
from nvae_vectors import close
from safetensors.torch import load_file

from hebm.interfaces import Batch, ImageSpec
from hebm_plugins.vdvae.recipe import VDVAE

VECTORS = Path(__file__).parent.parent / "vectors" / "vdvae"
MODELS = ("tiny_cifar", "tiny_imagenet64", "tiny_ffhq256")
DATA_SETS = {"cifar10": "cifar10", "imagenet64": "imagenet64", "ffhq_256": "ffhq256"}


class Fed:
    """One recorded draw in place of noise."""

    def __init__(self, value):
        self.value = value

    def normal(self, rows, *shape):
        assert self.value.shape == (rows, *shape)
        return self.value


def read_json(name):
    """A JSON file of the vectors."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def recipe_of(config):
    """The recipe of a configuration in the published code's terms."""
    return VDVAE(
        encoder=config["enc_blocks"],
        decoder=config["dec_blocks"],
        width=config["width"],
        widths=config["custom_width_str"],
        latent_channels=config["zdim"],
        bottleneck=config["bottleneck_multiple"],
        no_bias_above=config["no_bias_above"],
        mixtures=config["num_mixtures"],
        bits=5 if config["dataset"] == "ffhq_256" else 8,
        normalisation=DATA_SETS[config["dataset"]],
    )


def thinned(value, like):
    """Every k-th row and column of a map, as many as in the vectors."""
    step = value.shape[-1] // like.shape[-1] if value.dim() >= 3 else 1
    assert step in (1, 2, 4, 8)
    return value[..., ::step, ::step] if step > 1 else value


def close_map(actual, expected, tolerance=1e-9):
    """Compare a map with its thinned form in the vectors."""
    close(thinned(actual, expected), expected, tolerance)


class Case:
    """A published model, its inputs and what it should give."""

    def __init__(self, name, dtype=torch.float64):
        self.name, self.dtype = name, dtype
        self.config = read_json(f"{name}/config")
        side = self.config["image_size"]
        self.backbone = recipe_of(self.config).build(ImageSpec(3, side, side)).to(dtype).eval()
        self.backbone.load_state_dict(load_file(VECTORS / name / "state_dict.safetensors"))
        self.inputs = load_file(VECTORS / name / "inputs.safetensors")
        self.expected = load_file(VECTORS / name / "expected.safetensors")
        self.scalars = read_json(f"{name}/expected")
        self.layers = range(len(self.backbone.layout))

    def noise(self, kind):
        """The flat tensor of "eps" or "u"."""
        return self.backbone.layout.join([self.inputs[f"{kind}.{i}"] for i in self.layers]).to(self.dtype)

    @property
    def images(self):
        return self.inputs["x_uint8"].to(self.dtype) / 127.5 - 1

    @property
    def batch(self):
        return Batch(self.images, self.images, None, torch.arange(2))

    def posterior(self, scale=1.0):
        return self.backbone.infer(self.batch, Fed(scale * self.noise("eps")))
