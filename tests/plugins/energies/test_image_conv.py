"""Energies of the decoded image and of the decoder's last feature: sizes, formula, gradient, one decoding a density."""

import pytest
import torch
from torch.nn import functional as F

from hebm.compilation import Compiled
from hebm.densities import Conditioned, GeneratorPosterior, TiltedPrior
from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec, Posterior, Progress, Request, tilt_of
from hebm.latents import LatentLayout
from hebm.model import Model
from hebm.noise import Noise
from hebm.sampling import run
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, points, seeded
from hebm.tilts import Tilt, seen_by
from hebm_plugins.energies.feature_mlp import FeatureMLP
from hebm_plugins.energies.image_conv import FeatureConv, ImageConv
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.nvae.recipe import NVAETiny
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Contrast
from hebm_plugins.priors.presets import AdaptiveCE
from hebm_plugins.samplers.ula import ULA

SMALL = {"width": 8, "zero_init": False}


def of_images(*shape):
    return LatentLayout(((3,),), image=shape)


def weights(energy):
    return sum(p.numel() for p in energy.parameters())


@pytest.mark.parametrize(
    ("shape", "count", "flat"),
    [
        ((1, 28, 28), 187_585, 1024),
        ((3, 32, 32), 189_185, 1024),
        ((3, 64, 64), 226_113, 1024),
        ((3, 256, 256), 299_969, 1024),
        ((3, 64, 32), 160_577, 512),
    ],
)
def test_the_net_halves_images_to_4_pixels_whatever_their_size(shape, count, flat):
    energy = ImageConv().build(of_images(*shape))
    assert weights(energy) == count
    assert energy.net[-3].in_features == flat
    assert energy.count(of_images(*shape)) == 1


def test_the_net_is_convolutions_dropout_and_two_linear_layers_and_starts_at_0():
    energy, image = seeded(lambda: ImageConv().build(of_images(1, 28, 28))), points(2, 784).view(2, 1, 28, 28).tanh()
    latents = of_images(1, 28, 28).zeros(image)
    latents.shown["image"] = image
    assert not energy(latents).any()
    one, two, three, four, five = [p.detach() for p in perturbed(energy).parameters()][::2]
    a, b, c, d, e = [p.detach() for p in energy.parameters()][1::2]
    h = F.silu(F.conv2d(image, one, a, stride=2, padding=2))
    h = F.silu(F.conv2d(h, two, b, stride=2, padding=1))
    h = F.silu(F.conv2d(h, three, c, stride=2, padding=1))
    expected = F.linear(F.silu(F.linear(h.flatten(1), four, d)), five, e)
    torch.testing.assert_close(energy(latents)[:, 0], expected)


def test_training_rounds_and_shifts_the_image_and_drops_features():
    layout, image = of_images(1, 28, 28), points(40, 784).view(40, 1, 28, 28).tanh()
    latents = layout.zeros(image)
    latents.shown["image"] = image

    def of(**options):
        energy = seeded(lambda: ImageConv(zero_init=False, **options).build(layout))
        return energy, energy.perturbed(Noise(0, "step"))(latents)

    rounded = (((image + 1) * 127.5).round() / 127.5) - 1
    energy, f = of(dropout=0.0, shift=0)
    torch.testing.assert_close(f[:, 0], energy.net(rounded))
    assert not torch.allclose(f, energy(latents), atol=1e-6)
    for options in ({"dropout": 0.0}, {"shift": 0}, {}):
        assert not torch.allclose(of(**options)[1], f, atol=1e-3)


def test_feature_conv_takes_a_map_and_sends_who_has_none_elsewhere():
    layout = LatentLayout(((3,),), last_feature=(64, 8, 8))
    energy = FeatureConv().build(layout, logits=3)
    assert weights(energy) == (64 * 9 * 64 + 64) * 2 + 1024 * 128 + 128 + 3 * 129
    assert energy(layout.zeros(torch.zeros(()))).shape == (1, 1, 3)
    with pytest.raises(
        ConfigError, match=r'one of shape \(7,\); use prior\.energy\.type = "feature-mlp" or "image-conv"'
    ):
        FeatureConv().build(LatentLayout(((3,),), last_feature=(7,)))


# ---------------------------------------------------------------- on a backbone


@pytest.fixture(scope="module")
def nvae():
    recipe = NVAETiny(channels=4, groups=2, latent_channels=2)
    return perturbed(seeded(lambda: recipe.build(ImageSpec(1, 16, 16)))).eval().double()


ENERGIES = [ImageConv(channels=4, **SMALL), FeatureConv(channels=4, **SMALL)]
both = pytest.mark.parametrize("recipe", ENERGIES, ids=lambda recipe: type(recipe).__name__)


def built(recipe, backbone, prior=Joint):
    return seeded(lambda: prior(energy=recipe, sampler=ULA(steps=3)).build(backbone)).double()


@both
def test_the_gradient_goes_through_the_decoder_and_folding_changes_nothing(recipe, nvae):
    prior, u = perturbed(built(recipe, nvae), 0.3), points(3, nvae.layout.dim, torch.float64)
    density = prior.density(nvae)
    value, grad = density.value_and_grad(u)
    step = 1e-5 * points(3, nvae.layout.dim, torch.float64, "direction")
    change = (density.remainder(u + step) - density.remainder(u - step)) / 2
    torch.testing.assert_close(change.detach(), ((grad + u) * step).sum(1), rtol=1e-5, atol=1e-10)
    assert float(change.detach().abs().min()) > 1e-8
    folded = prior.density(nvae.folded()).value_and_grad(u)
    torch.testing.assert_close(folded.value, value)
    torch.testing.assert_close(folded.grad, grad)


def test_a_chain_of_an_energy_that_sees_the_image_is_compiled_as_one_graph():
    backbone = seeded(ReferenceBackbone)
    density = built(ENERGIES[0], backbone).float().density(backbone)
    start = points(3, backbone.layout.dim)
    eager = run(ULA(), density, start, Noise(0, "chain"), 2)
    traced = run(Compiled(ULA(), "eager"), density, start, Noise(0, "chain"), 2)
    torch.testing.assert_close(traced.u, eager.u)


@both
def test_a_chain_keeps_fixed_layers_and_follows_f_in_the_others(recipe, nvae):
    prior, u = built(recipe, nvae), points(3, nvae.layout.dim, torch.float64)
    fixed = nvae.layout.fix(u, {0})
    draw = prior.sample(nvae, 3, Noise(0, "sample", dtype=torch.float64), Request(fixed=fixed)).u
    assert torch.equal(draw[:, fixed.mask], u[:, fixed.mask])
    whole = prior.density(nvae).value_and_grad(u).grad
    part = Conditioned(prior.density(nvae), fixed).value_and_grad(fixed.free(u)).grad
    torch.testing.assert_close(part, fixed.free(whole))


def counting(module, calls):
    module.register_forward_hook(lambda *_: calls.append(1))


@pytest.mark.parametrize(
    ("energy", "passes", "images"),
    [(MLP(), 1, 0), (FeatureMLP(), 1, 0), (FeatureConv(channels=2), 1, 0), (ImageConv(channels=2), 1, 1)],
)
def test_a_density_decodes_once_and_only_for_an_energy_that_sees_the_image(energy, passes, images):
    backbone = seeded(lambda: NVAETiny(channels=4, groups=2, latent_channels=2).build(ImageSpec(1, 16, 16))).eval()
    prior = Joint(energy=energy).build(backbone)
    entered, decoded = [], []
    counting(backbone.decoder.groups[1].cells[0], entered)
    counting(backbone.decoder.head, decoded)
    prior.density(backbone).value_and_grad(points(2, backbone.layout.dim))
    assert (len(entered), len(decoded)) == (passes, images)


def test_every_stage_of_a_product_sees_one_image():
    backbone = seeded(ReferenceBackbone)
    prior = MultiStage(stages=3, energy=ImageConv(channels=2, **SMALL)).build(backbone)
    prior.trained_stages, decoded = 3, []
    counting(backbone.generator, decoded)
    density = prior.density(backbone)
    value, _ = density.value_and_grad(u := points(4, backbone.layout.dim))
    assert len(decoded) == 1
    latents = seen_by(prior, backbone, u)
    expected = sum(ratio(latents).sum((1, 2)) for ratio in prior.ratios) - 0.5 * u.square().sum(1)
    torch.testing.assert_close(value, expected.detach())


def test_posterior_chains_and_labels_work_as_for_any_energy():
    backbone = seeded(ReferenceBackbone)
    prior = MultiStage(stages=1, energy=ImageConv(channels=2, **SMALL), classes=3).build(backbone)
    prior.trained_stages = 1
    u, labels = points(4, backbone.layout.dim), torch.tensor([0, 1, 2, 0])
    latents = seen_by(prior, backbone, u)
    logits = prior.ratios[0](latents)[:, 0]
    assert logits.shape == (4, 4)
    chosen = logits.gather(1, labels[:, None])[:, 0] - logits[:, 3] - torch.log(torch.tensor(3.0))
    value = prior.density(backbone, labels=labels).value_and_grad(u).value
    torch.testing.assert_close(value, (chosen - 0.5 * u.square().sum(1)).detach())
    target = torch.zeros(4, *backbone.images.shape)
    posterior = GeneratorPosterior(backbone, target, tilt_of(prior)).value_and_grad(u).value
    f = tilt_of(prior).at(backbone, backbone.latents(u)).sum(1)
    plain = GeneratorPosterior(backbone, target).value_and_grad(u).value
    torch.testing.assert_close(posterior, (plain + f).detach())
    assert isinstance(TiltedPrior(backbone, Tilt(prior.tilt, (prior,))).remainder(u), torch.Tensor)


def test_kept_posterior_draws_of_the_stage_before_are_decoded_for_the_next():
    backbone = seeded(ReferenceBackbone)
    contrast = Contrast(negatives="posterior", pool=8)
    prior = seeded(lambda: AdaptiveCE(energy=ImageConv(channels=2, **SMALL), contrast=contrast).build(backbone))
    first, second, *_ = prior.stages()
    latents = seen_by(prior, backbone, points(8, backbone.layout.dim)).detach()
    for stage in (first, second):
        stage.start(backbone, Noise(0, "start"))
        stage.objective(backbone, Posterior(latents), Noise(0, "step"), Progress(0, 1)).total.backward()
    assert all(p.grad is not None for p in prior.ratios[1].parameters())


@torch.no_grad()
def test_scores_of_images_are_f_of_their_reconstructions():
    backbone, x = seeded(ReferenceBackbone), points(5, 64).view(5, 1, 8, 8).tanh()
    backbone.inference.weight[7:] = 0
    backbone.inference.bias[7:] = -30.0  # q(u|x) is a point
    prior = built(ImageConv(channels=2, **SMALL), backbone).float()
    scores = Model(backbone, prior).score(x)
    decoded = backbone.likelihood(backbone.latents(backbone.inference(x.flatten(1))[:, :7])).mean
    torch.testing.assert_close(scores.total.float(), prior.energy.net(decoded)[:, 0])
    assert scores.layer is None
