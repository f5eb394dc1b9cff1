"""The VDVAE recipe and what it builds: strings, widths, normalisation, scores of few bits, errors that name the fix."""

import pytest
import torch

from hebm.errors import ConfigError
from hebm.interfaces import Batch, FitsStatistics, ImageSpec, ShowsFeatures
from hebm.noise import Noise
from hebm.testing.subjects import perturbed
from hebm_plugins.pixels.logistic_mixture import LogisticMixturePixels
from hebm_plugins.vdvae.recipe import SCORING, VDVAE, VDVAETiny
from hebm_plugins.vdvae.structure import default_strings

STRINGS = {"encoder": "16x1,16d4,4x1,4d4,1x1", "decoder": "1x1,4m1,4x1,16m4"}
SMALL = {**STRINGS, "width": 8, "latent_channels": 2, "normalisation": "cifar10"}
COLOUR = ImageSpec(3, 16, 16)


def built(images=COLOUR, **fields):
    torch.manual_seed(0)
    return perturbed(VDVAE(**{**SMALL, **fields}).build(images).double(), 0.1).eval()


@pytest.mark.parametrize(
    ("side", "encoder", "decoder"),
    [
        (32, "32x1,32d2,16x1,16d2,8x1,8d2,4x1,4d4,1x1", "1x1,4m1,4x1,8m4,8x1,16m8,16x1,32m16"),
        (28, "28x1,28d2,14x1,14d2,7x1,7d7,1x1", "1x1,7m1,7x1,14m7,14x1,28m14"),
        (5, "5x1,5d5,1x1", "1x1,5m1"),
        (1, "1x1", "1x1"),
    ],
)
def test_default_strings_go_from_the_image_to_one_pixel_and_back(side, encoder, decoder):
    assert default_strings(side) == (encoder, decoder)
    assert VDVAETiny().structure(side).side == side


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"encoder": "16q1"}, "backbone.encoder: '16q1' is not a block"),
        ({"encoder": "16m4,1x1"}, '"RdK" for one that pools by K'),
        ({"decoder": "1x1,4d1"}, '"RmK" for one that mixes in the side K'),
        ({"encoder": "16x0"}, "has no blocks"),
        ({"encoder": "99999999x1"}, "is not a block"),
        ({"encoder": "32x1,32d2"}, "a block of side 32 follows a map of side 16"),
        ({"encoder": "16x1,4x1"}, "only RdK changes the side"),
        ({"encoder": "16d3"}, "cannot be pooled by 3"),
        ({"encoder": "16x1,16d2,8x1,8d8,1x1"}, "the encoder has no map of side 4; its sides are 1, 8, 16"),
        ({"decoder": "1x1,4m1,4x1"}, "the last block has side 4"),
        ({"decoder": "4x1,16m8"}, "16m8 mixes in a map of side 8"),
        ({"decoder": "4m1,16m4", "no_bias_above": 0}, "4m1 mixes in a map of side 1"),
        ({"widths": "4"}, "'4' is not \"R:w\""),
        ({"widths": "16:12"}, "must have width = 8"),
        ({"widths": "4:4"}, "the encoder's width must not fall from side 16 to 4"),
        ({"widths": "4:16,1:8", "encoder": "16d4,4x1", "decoder": "4x1,16m4"}, ""),
        ({"widths": "4:16"}, "the encoder's width must not fall from side 4 to 1"),
        ({"bottleneck": 0.05}, "leaves no inner channel"),
        ({"input_mean": 100.0}, "give both input_mean and input_std"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_the_key(fields, words):
    if not words:
        assert VDVAE(**{**SMALL, **fields}).build(COLOUR).layout.dim
        return
    with pytest.raises(ConfigError) as error:
        VDVAE(**{**SMALL, **fields}).build(COLOUR)
    assert words in str(error.value)


def test_images_that_are_not_square_or_of_another_side_are_errors():
    with pytest.raises(ConfigError, match="are not square; set data"):
        VDVAETiny().build(ImageSpec(1, 16, 8))
    with pytest.raises(ConfigError, match="a block of side 16 follows a map of side 32"):
        VDVAE(**SMALL).build(ImageSpec(3, 32, 32))


def test_the_normalisation_is_measured_on_all_training_images():
    class Pixels:
        shape = (3, 16, 16)

        def __len__(self):
            return 700

        def read(self, indices):
            return torch.where(indices % 2 == 0, 0.5, -0.1)[:, None, None, None].expand(-1, 3, 16, 16)

    backbone = built(normalisation="data")
    assert isinstance(backbone, FitsStatistics)
    backbone.fit_statistics(Pixels())
    found = backbone.normalisation(torch.tensor([0.5, -0.1, 0.2], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)
    assert {"normalisation.mean", "normalisation.std"} <= backbone.state_dict().keys()


def test_given_constants_replace_the_named_ones():
    backbone = built(input_mean=0.0, input_std=51.0)
    close = backbone.normalisation(torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(close, torch.tensor([0.0, 5.0]))


def test_energies_see_the_features_and_without_gradients_only_the_state_is_kept():
    backbone = built()
    assert isinstance(backbone, ShowsFeatures)
    u = Noise(1, "u", dtype=torch.float64).normal(3, backbone.layout.dim)
    whole = backbone.latents(u)
    with torch.no_grad():
        latents = backbone.latents(u)
        assert latents.carried.features == ()
        for shape, a, b in zip(
            backbone.layout.features, backbone.decoder_features(latents), whole.carried.features, strict=True
        ):
            assert a.shape == (3, *shape)
            torch.testing.assert_close(a, b)
        assert backbone.last_feature(latents).shape == (3, *backbone.layout.last_feature)
        detached = backbone.likelihood(latents.detach()).mean
        torch.testing.assert_close(detached, backbone.likelihood(latents).mean)


def test_the_generative_modules_are_all_but_the_inference_model():
    backbone = built()
    parts = {id(p) for module in backbone.generative() for p in module.parameters()}
    names = {name for name, p in backbone.named_parameters() if id(p) not in parts}
    assert all(name.startswith("encoder.") or ".enc." in name for name in names)


def test_five_bits_are_scored_as_published_and_said_not_to_be_bits_per_dimension():
    logits = torch.zeros(1, 10, 1, 1, dtype=torch.float64)
    levels = torch.arange(0, 256, 8, dtype=torch.float64) / 127.5 - 1
    grey = levels[:, None, None, None].expand(-1, 3, 1, 1)
    overlapping = LogisticMixturePixels(logits.expand(32, -1, -1, -1), 5, SCORING)
    assert "not bits per dimension" in overlapping.scale
    proper = LogisticMixturePixels(logits.expand(32, -1, -1, -1), 5)
    assert "bits per dimension of 5-bit images" in proper.scale
    # of 32 levels of one colour, the masses of the proper score sum to 1, of the published one to another number
    one = proper.log_prob(grey).exp().pow(1 / 3).sum()
    torch.testing.assert_close(one, torch.ones_like(one), atol=1e-9, rtol=0)
    assert (overlapping.log_prob(grey).exp().pow(1 / 3).sum() - 1).abs() > 1e-3


def test_the_encoder_sees_all_bits_of_images_that_are_scored_at_five():
    backbone = built(bits=5)
    x = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    shifted = x + 2 / 255
    batch = Batch(x, x, None, torch.arange(1))
    latents = backbone.infer(batch, Noise(0, "q", dtype=torch.float64)).latents
    assert torch.equal(backbone.likelihood(latents).log_prob(x), backbone.likelihood(latents).log_prob(shifted))
    assert not torch.equal(backbone.encode(x)[16], backbone.encode(shifted)[16])
