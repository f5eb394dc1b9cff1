"""The backbone `auto-encoder`: T and T⁻¹, likelihoods in other ranges, standardisation, and what stays untouched."""

import math

import pytest
import torch
from own_vaes import SPEC, Decoder, Encoder, GridVAE, grid_vae, grids
from torch import nn
from torch.distributions import Bernoulli, Independent, Laplace, Normal

import hebm
from hebm import Noise
from hebm.interfaces import Batch
from hebm.likelihoods import BernoulliPixels

X = grids(6).pixels
BATCH = Batch(X, X, None, torch.arange(6))


def in_float64(backbone):
    return backbone.double(), Batch(X.double(), X.double(), None, torch.arange(6))


class Stated(GridVAE):
    """A VAE on images in [0, 1] whose decoder returns a distribution."""

    def __init__(self, of):
        super().__init__()
        self.of = of

    def encode(self, x):
        return super().encode(2 * x - 1)

    def decode(self, z):
        return self.of((super().decode(z) + 1) / 2)


def stated(of):
    vae = Stated(of)
    keys = {"likelihood": "decoder", "range": (0, 1)}
    return hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2), **keys).build(SPEC)


# ---------------------------------------------------------------- T, inference and standardisation


def test_without_standardise_z_is_u_and_the_prior_is_standard_normal():
    backbone = grid_vae().build(SPEC)
    u = Noise(0, "u").normal(3, 4)
    latents = backbone.latents(u)
    assert torch.equal(latents.flat_z, u)
    assert torch.equal(latents.log_sigma, torch.zeros(3))
    assert backbone.layout.shapes == ((1, 2, 2),)


@pytest.mark.parametrize(("mode", "shape"), [("scalar", ()), ("channel", (2, 1, 1))])
def test_standardise_fits_mean_and_deviation_of_the_latents_of_all_images(mode, shape, capsys):
    class Two(nn.Module):
        def encode(self, x):
            mean = torch.cat([x[:, :, :2, :2], 5 + 3 * x[:, :, 2:4, 2:4]], dim=1)
            return mean, torch.full_like(mean, math.log(0.25))

        def decode(self, z):
            return z[:, :1].repeat(1, 1, 4, 4)

    images, vae = grids(150), Two()
    backbone = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(2, 2, 2), standardise=mode).build(SPEC)
    backbone.fit_statistics(images)
    mean, _ = vae.encode(images.pixels.double())
    dims = (0, 2, 3) if shape else (0, 1, 2, 3)
    wanted = mean.mean(dims), (mean.var(dims, correction=0) + 0.25).sqrt()
    assert backbone.shift.shape == backbone.scale.shape == shape
    for found, true in zip((backbone.shift, backbone.scale), wanted, strict=True):
        assert torch.allclose(found.flatten(), true.float().flatten(), atol=1e-5)
    assert "is fitted to 150 training images" in capsys.readouterr().err


def test_densities_are_exact_after_standardisation():
    backbone = grid_vae(standardise="channel").build(SPEC)
    backbone.fit_statistics(grids())
    backbone, batch = in_float64(backbone)
    found = backbone.infer(batch, Noise(0, "q", dtype=torch.float64))
    z, (shift, scale) = found.latents.z[0], (backbone.shift, backbone.scale)
    assert float(scale) > 1.2
    prior = Normal(shift, scale).log_prob(z).flatten(1).sum(1)
    mean, log_variance = backbone.parts.encode(batch.x)
    q = Normal(mean, (0.5 * log_variance).exp())
    kl = torch.distributions.kl_divergence(q, Normal(shift.expand_as(mean), scale.expand_as(mean)))
    assert torch.allclose(found.latents.root_log_prob, prior, atol=1e-10)
    assert torch.allclose(found.log_q[:, 0], q.log_prob(z).flatten(1).sum(1), atol=1e-10)
    assert torch.allclose(found.kl[:, 0], kl.flatten(1).sum(1), atol=1e-10)
    assert torch.allclose(backbone.latents(found.latents.u).flat_z, found.latents.flat_z, atol=1e-12)


def test_latents_far_from_the_prior_are_noted_without_standardise(capsys):
    with torch.no_grad():
        (vae := GridVAE()).factor.fill_(40.0)
    hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2)).build(SPEC).fit_statistics(grids())
    assert 'set standardise = "scalar" or "channel"' in " ".join(capsys.readouterr().err.split())


def test_reconstructions_worse_than_the_mean_image_are_noted(capsys):
    torch.manual_seed(0)
    encode, decode = Encoder(), Decoder()
    hebm.AutoEncoder(encode, decode, latent_shape=(3,), range=(0, 1)).build(SPEC).fit_statistics(grids())
    assert "the mean of the training images is as close to them as the VAE's reconstructions" in " ".join(
        capsys.readouterr().err.split()
    )


# ---------------------------------------------------------------- p(x|z)


def test_a_mean_in_another_range_is_scaled_and_clamped():
    class Offset(nn.Module):
        def forward(self, z):
            return torch.full((len(z), 1, 8, 8), 300.0) * z[:, :1, None, None]

    backbone = hebm.AutoEncoder(Encoder(), Offset(), latent_shape=(3,), range=(0, 255)).build(SPEC)
    z = torch.tensor([[0.0, 0, 0], [0.425, 0, 0], [1.0, 0, 0]])
    assert torch.allclose(backbone.likelihood(backbone.latents(z)).mean[:, 0, 0, 0], torch.tensor([-1.0, 0.0, 1.0]))


def test_the_encoder_reads_images_in_its_range():
    seen = []

    class Seeing(Encoder):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    backbone = hebm.AutoEncoder(Seeing(), Decoder(), latent_shape=(3,), range=(0, 255)).build(SPEC)
    backbone.infer(BATCH, Noise(0, "q"))
    assert torch.allclose(seen[0], 127.5 * (X + 1), atol=1e-3)


@pytest.mark.parametrize("of", [lambda m: Normal(m, 0.2), lambda m: Independent(Laplace(m, 0.2), 3)])
def test_a_continuous_distribution_of_the_decoder_has_its_density_over_pixels_from_minus_one_to_one(of):
    backbone, batch = in_float64(stated(of))
    latents = backbone.infer(batch, Noise(0, "q", dtype=torch.float64)).latents
    found = backbone.likelihood(latents)
    given = backbone.parts.decode(latents.z[0]).log_prob((batch.x + 1) / 2)
    wanted = given.flatten(1).sum(1) if given.ndim > 1 else given
    assert torch.allclose(found.log_prob(batch.x), wanted - 64 * math.log(2), atol=1e-9)
    draws = torch.stack([found.draw(Noise(i, "draw", dtype=torch.float64)) for i in range(200)])
    inner = found.mean.abs() < 0.1
    assert torch.allclose(draws.mean(0)[inner], found.mean[inner], atol=0.2)


def test_a_bernoulli_of_the_decoder_gives_bernoulli_pixels():
    found = stated(lambda m: Bernoulli(logits=m)).likelihood(stated(lambda m: m).latents(torch.zeros(2, 4)))
    assert isinstance(found, BernoulliPixels)
    assert torch.equal(found.logits, torch.full((2, 1, 8, 8), 0.5))


# ---------------------------------------------------------------- what belongs to the user


def test_modules_are_used_in_eval_mode_and_keep_their_own():
    class Dropping(Encoder):
        def __init__(self):
            super().__init__()
            self.drop, self.frozen = nn.Dropout(0.5), nn.Dropout(0.5).eval()

        def forward(self, x):
            assert not any(part.training for part in self.modules())
            return super().forward(self.drop(x))

    encode = Dropping()
    backbone = hebm.AutoEncoder(encode, Decoder(), latent_shape=(3,), range=(0, 1)).build(SPEC)
    for mode in (True, False):
        backbone.train(mode)
        backbone.infer(BATCH, Noise(0, "q"))
        assert encode.training
        assert (encode.drop.training, encode.frozen.training) == (True, False)


def test_the_modules_themselves_are_used_and_stored_once():
    vae = GridVAE()
    backbone = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2)).build(SPEC)
    assert backbone.vae is vae
    assert set(backbone.state_dict()) == {"shift", "scale", "vae.factor", "vae.log_variance"}
    encode, decode = Encoder(), Decoder()
    apart = hebm.AutoEncoder(encode, decode, latent_shape=(3,)).build(SPEC)
    assert apart.vae["encoder"] is encode
    assert apart.vae["decoder"] is decode


@pytest.mark.parametrize(
    ("cls", "name"),
    [("DigitsVAE", "digits-vae"), ("AutoencoderKL", "autoencoder-kl"), ("_Net2", "net2"), ("NVAE", "my-nvae")],
)
def test_the_component_is_named_after_the_class(cls, name):
    vae = type(cls, (GridVAE,), {})()
    assert hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2)).component == name


def test_the_component_of_two_plain_modules_has_a_general_name():
    assert hebm.AutoEncoder(Encoder(), Decoder(), latent_shape=(3,)).component == "my-vae"
    assert grid_vae(component="grids").component == "grids"


def test_the_fingerprint_depends_on_the_weights_and_not_on_their_precision():
    vae = GridVAE()
    first = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2)).fingerprint
    vae.double()
    assert hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2)).fingerprint == first
    with torch.no_grad():
        vae.factor.add_(0.1)
    assert hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2)).fingerprint != first
