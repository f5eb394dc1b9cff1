"""Errors of a user's VAE say what is wrong with it and what to do."""

import pytest
import safetensors.torch
import torch
from own_vaes import SPEC, Decoder, Encoder, GridVAE, OwnGrid, grid_vae, grids
from torch import nn
from torch.distributions import Binomial, Categorical, Normal
from torch.nn import functional as F

import hebm
from hebm import CheckpointError, ConfigError, Noise
from hebm.interfaces import Batch

X = grids(3).pixels
BATCH = Batch(X, X, None, torch.arange(3))


def grid_with(encode=None, decode=None, **keys):
    """The backbone of a `GridVAE` with other methods."""
    methods = {name: method for name, method in (("encode", encode), ("decode", decode)) if method is not None}
    vae = type("Changed", (GridVAE,), methods)()
    return hebm.AutoEncoder(vae.encode, vae.decode, **{"latent_shape": (1, 2, 2), **keys}).build(SPEC)


# ---------------------------------------------------------------- the recipe


@pytest.mark.parametrize(
    ("encode", "decode", "keys", "message"),
    [
        (Encoder(), None, {}, r"no VAE: pass two modules in Python"),
        (None, None, {}, r"hebm init --plugin NAME --kind vae"),
        (lambda x: x, Decoder(), {}, r"encode is a function, but a run stores weights; pass a torch.nn.Module"),
        (Encoder(), torch.tanh, {}, r"decode is a builtin_function_or_method"),
        (Encoder(), Decoder(), {"latent_shape": (3, 4)}, r"latent_shape: use \(D,\) or \(C, H, W\), got \(3, 4\)"),
        (Encoder(), Decoder(), {"range": (1, 0)}, r"range: use \(black, white\)"),
        (Encoder(), Decoder(), {"likelihood": "laplace"}, r"likelihood: .*gaussian"),
        (Encoder(), Decoder(), {"fingerprint": "0" * 64}, r"these are not the weights of this run"),
    ],
)
def test_impossible_recipes(encode, decode, keys, message):
    with pytest.raises(ConfigError, match=message):
        hebm.AutoEncoder(encode, decode, **{"latent_shape": (3,), **keys})


def test_weights_that_changed_after_the_recipe_was_made():
    vae = GridVAE()
    recipe = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2))
    with torch.no_grad():
        vae.factor.add_(1)
    with pytest.raises(ConfigError, match="weights have changed since"):
        recipe.build(SPEC)


# ---------------------------------------------------------------- results of the parts


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda vae, x: x, r"encode returns a tensor of shape \(3, 1, 8, 8\), .*return tensor.chunk\(2, dim=1\)"),
        (lambda vae, x: (x, x, x), r"encode returns a tuple of 3 values"),
        (lambda vae, x: {"mean": x}, r"encode returns a dict"),
        (lambda vae, x: (x, x), r"mean of shape \(3, 1, 8, 8\), .*set latent_shape = \(1, 8, 8\)"),
        (lambda vae, x: (GridVAE.encode(vae, x)[0], x), r"log-variance of shape \(3, 1, 8, 8\)"),
    ],
)
def test_encoders_that_return_something_else(encode, message):
    with pytest.raises(ConfigError, match=message):
        grid_with(encode=encode).infer(BATCH, Noise(0, "q"))


@pytest.mark.parametrize(
    ("decode", "keys", "message"),
    [
        (lambda vae, z: (z,), {}, r"decode returns a tuple"),
        (lambda vae, z: z, {}, r"images of shape \(2, 1, 2, 2\) for 2 latents, .*\(2, 1, 8, 8\)"),
        (lambda vae, z: Normal(z, 1.0), {}, r"returns the distribution Normal; set likelihood = 'decoder'"),
        (lambda vae, z: z, {"likelihood": "decoder"}, r"must return a distribution over images, .*Tensor"),
        (lambda vae, z: Normal(z, 1.0), {"likelihood": "decoder"}, r"images of shape \(2, 1, 2, 2\)"),
        (lambda vae, z: Binomial(3, F.interpolate(z, (8, 8)).sigmoid()), {"likelihood": "decoder"}, "Binomial"),
        (lambda vae, z: Categorical(torch.ones(2, 1, 8, 8, 4)), {"likelihood": "decoder"}, "PixelDistribution"),
    ],
)
def test_decoders_that_return_something_else(decode, keys, message):
    backbone = grid_with(decode=decode, **keys)
    with pytest.raises(ConfigError, match=message):
        backbone.likelihood(backbone.latents(torch.zeros(2, 4)))


# ---------------------------------------------------------------- checks on a batch


def in_grid(vae, z):
    return F.interpolate(z / vae.factor, (8, 8))


class Lost(nn.Module):
    """Holds a module that is not registered, and so does not move with it."""

    def __init__(self):
        super().__init__()
        self.hidden = (nn.Linear(64, 4).double(),)

    def encode(self, x):
        mean = self.hidden[0](x.flatten(1)).unflatten(1, (1, 2, 2))
        return mean, mean

    def decode(self, z):
        return F.interpolate(z, (8, 8))


FAULTS = {
    "random-encoder": (
        {"encode": lambda vae, x: GridVAE.encode(vae, F.dropout(x, 0.5))},
        "encode returns different results for the same input",
    ),
    "random-decoder": (
        {"decode": lambda vae, z: in_grid(vae, F.dropout(z, 0.5))},
        "decode returns different results for the same input",
    ),
    "batch-statistics": (
        {"encode": lambda vae, x: GridVAE.encode(vae, x - x.mean(0))},
        "encode returns other results for an image alone than in a batch",
    ),
    "other-type": (
        {"encode": lambda vae, x: [part.double() for part in GridVAE.encode(vae, x)]},
        r"encode returns torch\.float64 on cpu for torch\.float32 on cpu",
    ),
    "infinite-variance": (
        {"encode": lambda vae, x: (x[:, :, ::4, ::4], torch.full_like(x[:, :, ::4, ::4], 1e3))},
        "encode returns NaN or infinity for 40 of 40 training images",
    ),
    "nan-images": (
        {"decode": lambda vae, z: in_grid(vae, z) / 0 * 0},
        "decode returns NaN or infinity",
    ),
    "no-gradient": (
        {"decode": lambda vae, z: in_grid(vae, z.detach())},
        "no gradient in the latents.*must not use torch.no_grad",
    ),
    "under-no-grad": ({"decode": torch.no_grad()(in_grid)}, "no gradient in the latents"),
    "range-of-sigmoids": (
        {"decode": lambda vae, z: (in_grid(vae, z) + 1) / 2},
        r"decode returns means from .* and the range is \[-1, 1\]; set the range .*range = \(0, 1\)",
    ),
    "range-of-bytes": (
        {"decode": lambda vae, z: 255 * in_grid(vae, z)},
        r"decode returns means from -.*, and the range is \[-1, 1\]",
    ),
    "raises": (
        {"decode": lambda vae, z: vae.missing(z)},
        r"decode failed on 40 images of shape \(1, 8, 8\).*AttributeError",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_batch_of_training_images_shows_faults(fault):
    methods, message = FAULTS[fault]
    with pytest.raises(ConfigError, match=message):
        grid_with(**methods).fit_statistics(grids())


def test_modules_that_are_not_registered():
    vae = Lost()
    with pytest.raises(ConfigError, match=r"encode failed .*must be registered as sub-modules"):
        hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2)).build(SPEC).fit_statistics(grids())


def test_constant_latents_cannot_be_standardised():
    def encode(vae, x):
        return torch.ones(len(x), 1, 2, 2), torch.full((len(x), 1, 2, 2), -1e4)

    with pytest.raises(ConfigError, match="latents of the training images are constant"):
        grid_with(encode=encode, standardise="scalar").fit_statistics(grids())


# ---------------------------------------------------------------- files of weights


def test_weights_are_read_when_training_starts(tmp_path):
    torch.save({f"module.{name}": value for name, value in GridVAE().state_dict().items()}, tmp_path / "vae.pt")
    safetensors.torch.save_file(GridVAE().state_dict(), tmp_path / "vae.safetensors")
    for file in ("vae.pt", "vae.safetensors"):
        backbone = OwnGrid(factor=9.0, weights=str(tmp_path / file)).build(SPEC)
        assert backbone.vae.factor.item() == 9
        backbone.fit_statistics(grids())
        assert backbone.vae.factor.item() == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": torch.zeros(1)}, "does not fit the modules of the VAE.*factor"),
        ([1, 2], "does not hold a state_dict"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "vae.pt")
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        OwnGrid(weights=str(tmp_path / "vae.pt")).build(SPEC).fit_statistics(grids())


@pytest.mark.parametrize("file", ["no.pt", "no.safetensors"])
def test_missing_files_are_named(tmp_path, file):
    with pytest.raises(CheckpointError, match=file):
        OwnGrid(weights=str(tmp_path / file)).build(SPEC).fit_statistics(grids())


def test_the_fixture_has_no_fault():
    grid_vae().build(SPEC).fit_statistics(grids())
