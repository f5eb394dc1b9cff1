"""The NVAE recipe and what it builds: every architecture, folding, reduced images, and errors that name the fix."""

import copy
import pickle

import pytest
import torch

from hebm.compilation import Compiled
from hebm.densities import TiltedPrior
from hebm.errors import ConfigError
from hebm.interfaces import Batch, EnergyFn, ImageSpec, Progress
from hebm.noise import Noise
from hebm.sampling import run
from hebm.testing.subjects import perturbed
from hebm.tilts import Tilt, seen_by
from hebm_plugins.nvae.cells import ARCHITECTURES, Cell
from hebm_plugins.nvae.convolutions import WNConv2d
from hebm_plugins.nvae.folding import fold
from hebm_plugins.nvae.ops import UP
from hebm_plugins.nvae.recipe import NVAE, NVAETiny
from hebm_plugins.pixels.clamped_normal import ClampedNormalPixels
from hebm_plugins.pixels.logistic_mixture import LogisticMixturePixels
from hebm_plugins.samplers.ula import ULA

COLOUR = ImageSpec(3, 16, 16)
GREY = ImageSpec(1, 16, 16)
SMALL = {"channels": 8, "groups": 2, "latent_channels": 2, "encoder_cells": 1, "decoder_cells": 1, "blocks": 1}


def built(images=COLOUR, **fields):
    """A small NVAE in float64 whose BatchNorm statistics are not those of its initialisation."""
    torch.manual_seed(0)
    backbone = perturbed(NVAE(**{**SMALL, **fields}).build(images).double(), 0.1)
    batch = images_of(images, 8)
    backbone.train()
    backbone.objective(batch, Noise(0, "warm", dtype=torch.float64), Progress(1, 10))
    return backbone.eval()


def images_of(images, rows):
    x = 2 * Noise(0, "images", dtype=torch.float64).uniform(rows, *images.shape) - 1
    return Batch(x, x, None, torch.arange(rows))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@torch.no_grad()
def test_every_architecture_is_equal_when_folded(architecture):
    images = ImageSpec(3, 8, 8)
    backbone = built(images, architecture=architecture, flows=1)
    batch, u = images_of(images, 3), Noise(1, "u", dtype=torch.float64).normal(3, backbone.layout.dim)
    twin = backbone.folded()
    for one, other in ((backbone, twin), (backbone, twin.folded())):
        a, b = (model.infer(batch, Noise(0, "q", dtype=torch.float64)) for model in (one, other))
        torch.testing.assert_close(a.latents.u, b.latents.u, rtol=1e-9, atol=1e-9)
        a, b = (model.likelihood(model.latents(u)).mean for model in (one, other))
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_folded_copy_has_no_weight_norm_left_and_its_gradient_in_u_is_the_same():
    backbone = built()
    twin = backbone.folded()
    assert not [module for module in twin.modules() if isinstance(module, WNConv2d)]
    assert len([m for m in twin.decoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]) == 0
    u = Noise(1, "u", dtype=torch.float64).normal(3, backbone.layout.dim)

    tilt = Tilt(lambda latents: torch.stack([z.flatten(1).sin().sum(1) for z in latents.z], dim=1))
    one, other = (TiltedPrior(model, tilt).value_and_grad(u) for model in (backbone, twin))
    torch.testing.assert_close(one.value, other.value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("part", [2**23, 2**14], ids=["whole", "in parts of 2 rows and 1"])
@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("stride", [1, UP])
def test_a_frozen_cell_is_one_function_with_the_gradient_of_its_parts(stride, squeeze_excite, part, monkeypatch):
    """In float32, where oneDNN has the convolutions; against float64, which uses the modules."""
    monkeypatch.setattr("hebm_plugins.nvae.frozen_cell.PART", part if stride == UP else part // 4)
    cell = perturbed(Cell(("mconv_e3k5g0",), 4, stride, squeeze_excite), 0.3).eval()
    folded = fold(torch.nn.Sequential(copy.deepcopy(cell))).requires_grad_(False).to(memory_format=torch.channels_last)
    x = Noise(0, "x").normal(3, 4, 6, 5).to(memory_format=torch.channels_last).requires_grad_()
    wide = x.detach().double().requires_grad_()
    out, expected = folded(x), cell.double()(wide)
    assert "FrozenCell" in str(out.grad_fn)
    assert len(out.grad_fn.saved_tensors) == (2 + 3 * squeeze_excite) * (1 if part > 2**20 else 2)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
    before = out.detach().clone()
    (grad,) = torch.autograd.grad(out.sin().sum(), x)
    torch.testing.assert_close(grad.double(), torch.autograd.grad(expected.sin().sum(), wide)[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(out, before)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), out)
        torch.testing.assert_close(pickle.loads(pickle.dumps(copy.deepcopy(folded)))(x), out)
        folded[0].project.weight.zero_()
        folded[0].project.bias = torch.nn.Parameter(torch.zeros_like(folded[0].project.bias), requires_grad=False)
        torch.testing.assert_close(folded(x), cell.float().skip(x))


@pytest.mark.parametrize("architecture", ["res_mbconv", "res_elu"])
def test_a_chain_runs_on_bf16_weights(architecture):
    backbone = built(ImageSpec(3, 8, 8), architecture=architecture).to(torch.bfloat16)
    for model in (backbone, backbone.folded()):
        u = Noise(1, "u", dtype=torch.bfloat16).normal(3, model.layout.dim)
        tilt = Tilt(lambda latents: torch.stack([z.flatten(1).sin().sum(1) for z in latents.z], dim=1))
        found = TiltedPrior(model, tilt).value_and_grad(u)
        assert found.grad.dtype == torch.bfloat16
        assert found.grad.isfinite().all()
        assert model.likelihood(model.latents(u)).mean.isfinite().all()


def test_a_folded_copy_that_was_first_used_in_inference_mode_is_differentiated_outside():
    backbone = built().float()
    u = Noise(1, "u").normal(3, backbone.layout.dim)
    tilt = Tilt(lambda latents: torch.stack([z.flatten(1).sin().sum(1) for z in latents.z], dim=1))
    twin = backbone.folded()
    with torch.inference_mode():
        folded_inside = backbone.folded().latents(u).flat_z
        torch.testing.assert_close(twin.latents(u).flat_z, folded_inside)
    one, other = (TiltedPrior(model, tilt).value_and_grad(u) for model in (backbone, twin))
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_a_folded_copy_takes_no_rows_and_any_default_type():
    twin = built().float().folded()
    tilt = Tilt(lambda latents: torch.stack([z.flatten(1).sin().sum(1) for z in latents.z], dim=1))
    empty, u = torch.zeros(0, twin.layout.dim), Noise(1, "u").normal(3, twin.layout.dim)
    assert TiltedPrior(twin, tilt).value_and_grad(empty).grad.shape == empty.shape
    expected = TiltedPrior(twin, tilt).value_and_grad(u).grad
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(TiltedPrior(twin, tilt).value_and_grad(u).grad, expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_folding_leaves_the_original_alone():
    backbone = built()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.folded()
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_a_prior_chain_does_not_run_the_image_net():
    backbone = built()
    backbone.decoder.head.register_forward_hook(lambda *_: pytest.fail("the image net ran"))
    backbone.latents(torch.zeros(2, backbone.layout.dim, dtype=torch.float64))


class SeesDecoder(EnergyFn):
    """f = Σ_i sin(mean feature_i), the last feature included."""

    sees = ("features", "last-feature")

    def forward(self, latents, t=None):
        features = (*latents.features, latents.last_feature)
        return torch.stack([feature.flatten(1).mean(1).sin() for feature in features], dim=1).unsqueeze(2)


def test_an_energy_may_see_the_decoders_features_whose_shapes_the_layout_has():
    backbone = built()
    u = Noise(1, "u", dtype=torch.float64).normal(3, backbone.layout.dim)
    net = SeesDecoder()
    latents = seen_by(net, backbone, u)
    assert tuple(feature.shape[1:] for feature in latents.features) == backbone.layout.features
    assert latents.last_feature.shape[1:] == backbone.layout.last_feature
    assert len(latents.features) == len(backbone.layout)
    prior = backbone.decoder.groups[1].prior(latents.features[1])[1]
    torch.testing.assert_close(latents.z[1], prior.at(backbone.layout.split(u)[1]))
    assert net.count(backbone.layout) == len(backbone.layout) + 1

    density = TiltedPrior(backbone, Tilt(lambda latents: net(latents).squeeze(2), (net,)))
    value, grad = density.value_and_grad(u)
    step = 1e-6 * torch.ones_like(u)
    change = density.value_and_grad(u + step).value - density.value_and_grad(u - step).value
    torch.testing.assert_close(change / 2e-6, grad.sum(1), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(value, net(latents).sum((1, 2)) - 0.5 * u.square().sum(1))


def test_a_chain_of_an_energy_that_sees_features_is_compiled_as_one_graph():
    backbone = built(images=ImageSpec(3, 8, 8)).float()
    net, start = SeesDecoder(), Noise(1, "u").normal(3, backbone.layout.dim)
    density = TiltedPrior(backbone, Tilt(lambda latents: net(latents).squeeze(2), (net,)))
    eager = run(ULA(), density, start, Noise(0, "chain"), 2)
    traced = run(Compiled(ULA(), "eager"), density, start, Noise(0, "chain"), 2)
    torch.testing.assert_close(traced.u, eager.u)


@torch.no_grad()
def test_the_likelihood_goes_on_where_t_stopped_and_without_features_starts_again():
    backbone = built()
    latents = backbone.latents(torch.ones(2, backbone.layout.dim, dtype=torch.float64))
    torch.testing.assert_close(backbone.likelihood(latents).mean, backbone.likelihood(latents.detach()).mean)


@torch.no_grad()
def test_fewer_bits_are_seen_by_the_encoder_and_scored_by_the_likelihood():
    backbone = built(bits=5)
    levels = torch.arange(256, dtype=torch.float64).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    within = (levels // 8 * 8 + (levels + 3) % 8).clamp(max=255)  # other images, equal in 5 bits
    found = []
    for image in (levels, within):
        x = image / 127.5 - 1
        posterior = backbone.infer(Batch(x, x, None, torch.arange(1)), Noise(0, "q", dtype=torch.float64))
        found.append((posterior.latents.u, backbone.likelihood(posterior.latents).log_prob(x)))
    assert not torch.equal(levels, within)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@torch.no_grad()
def test_padding_is_black_and_neither_scored_nor_shown():
    backbone = built(ImageSpec(1, 12, 12), pad=2)
    x = images_of(ImageSpec(1, 12, 12), 2).x
    seen = []
    backbone.encoder.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    posterior = backbone.infer(Batch(x, x, None, torch.arange(2)), Noise(0, "q", dtype=torch.float64))
    assert seen[0].shape == (2, 1, 16, 16)
    assert torch.equal(seen[0][..., 2:-2, 2:-2], x)
    assert (seen[0][..., :2] == -1).all()
    assert backbone.likelihood(posterior.latents).mean.shape == x.shape


def test_the_layout_lists_the_coarsest_groups_first_and_halves_their_number():
    layout = NVAE(scales=3, groups=8, adaptive_groups=True, min_groups=3, latent_channels=5).layout(COLOUR)
    assert layout.shapes == ((5, 2, 2),) * 3 + ((5, 4, 4),) * 4 + ((5, 8, 8),) * 8


def test_the_likelihood_is_chosen_by_the_images():
    flat = torch.zeros(1, NVAE(**SMALL).layout(GREY).dim)
    for images, kind, fields in (
        (COLOUR, LogisticMixturePixels, {}),
        (COLOUR, ClampedNormalPixels, {"likelihood": "gaussian"}),
        (GREY, "BernoulliPixels", {}),
    ):
        backbone = NVAE(**SMALL, **fields).build(images)
        name = kind if isinstance(kind, str) else kind.__name__
        assert type(backbone.likelihood(backbone.latents(flat))).__name__ == name


@pytest.mark.parametrize(
    ("fields", "images", "message"),
    [
        ({"scales": 4, "blocks": 2}, COLOUR, r"sides that 32 divides, and the images are 16x16.*backbone\.pad"),
        ({"likelihood": "gaussian"}, GREY, r'backbone\.likelihood: \'gaussian\' is for colour.*use "bernoulli"'),
        ({"architecture": "mbconv_den", "channels": 3}, COLOUR, r"backbone\.architecture: 9 inner channels.*8 groups"),
    ],
)
def test_what_cannot_be_built_is_an_error_that_names_the_key(fields, images, message):
    with pytest.raises(ConfigError, match=message):
        NVAE(**{**SMALL, **fields}).build(images)


def test_fewer_channels_than_a_halving_skip_path_has_parts_are_refused():
    NVAE(**{**SMALL, "channels": 2, "decoder_channels": 1}).build(COLOUR)
    for kind in (NVAE, NVAETiny):
        with pytest.raises(ConfigError, match=r"channels: must be at least 2"):
            kind(channels=1)


def test_gradients_of_two_micro_batches_add_up_to_those_of_each():
    """The second forward pass moves the power iteration before the first one's backward pass."""
    backbone = NVAETiny(channels=4, groups=1, latent_channels=2).build(GREY).double().eval()
    parameters, found = list(backbone.parameters()), []
    for together in (False, True):
        backbone.spectral.load_state_dict({name: torch.ones_like(b) for name, b in backbone.spectral.named_buffers()})
        losses = []
        for step in (1, 2):
            loss = backbone.objective(images_of(GREY, 2), Noise(0, "q", step, dtype=torch.float64), Progress(step, 4))
            losses.append(loss.total if together else torch.autograd.grad(loss.total, parameters))
        sums = (
            [a + b for a, b in zip(*losses, strict=True)]
            if not together
            else torch.autograd.grad(sum(losses), parameters)
        )
        found.append(sums)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("likelihood", ["logistic-mixture", "gaussian"])
def test_under_a_bf16_autocast_latents_and_losses_are_float32(likelihood):
    backbone = NVAETiny(channels=4, groups=1, latent_channels=2, flows=1, likelihood=likelihood).build(COLOUR)
    batch = Batch(*(images_of(COLOUR, 4).x.float(),) * 2, None, torch.arange(4))
    plain = backbone.eval().infer(batch, Noise(0, "q"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = backbone.objective(batch, Noise(0, "q"), Progress(1, 4))
    found = loss.posterior
    kinds = {
        t.dtype for t in (loss.total, found.log_q, found.kl, found.latents.u, *found.latents.z, *found.latents.sigma)
    }
    assert kinds == {torch.float32}
    loss.total.backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters())
    torch.testing.assert_close(found.kl, plain.kl, rtol=0.1, atol=0.5)


def test_learning_lowers_the_bound():
    torch.manual_seed(0)
    backbone = NVAETiny(channels=4, groups=2).build(GREY)
    x = (torch.arange(256).reshape(1, 1, 16, 16) // 16 % 4 < 2).float().expand(16, 1, 16, 16) * 2 - 1
    batch, optimizer = Batch(x, x, None, torch.arange(16)), torch.optim.Adamax(backbone.parameters(), lr=1e-2)
    losses = []
    for step in range(30):
        loss = backbone.objective(batch, Noise(0, "train", step), Progress(step, 30))
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(-float(loss.terms["elbo"]))
    assert losses[-1] < 0.75 * losses[0]


def test_without_gradients_only_the_last_feature_is_kept_and_the_others_are_found_again():
    backbone = built()
    u = Noise(1, "u", dtype=torch.float64).normal(3, backbone.layout.dim)
    whole = backbone.latents(u)
    with torch.no_grad():
        latents = backbone.latents(u)
        assert [len(one.carried.features) for one in (whole, latents)] == [len(backbone.layout), 0]
        for a, b in zip(backbone.decoder_features(latents), whole.carried.features, strict=True):
            torch.testing.assert_close(a, b)
        torch.testing.assert_close(backbone.last_feature(latents), backbone.last_feature(whole))
