"""Batch statistics follow generated images, in the decoder alone."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hebm.interfaces import ImageSpec
from hebm.noise import Noise
from hebm_plugins.nvae.batch_norm import BatchNorm
from hebm_plugins.nvae.official.names import official_names
from hebm_plugins.nvae.recalibration import Recalibration, recalibrate
from hebm_plugins.nvae.recipe import NVAE, NVAETiny


@pytest.fixture
def backbone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recipe = NVAETiny(channels=4, groups=2, latent_channels=2, likelihood="bernoulli")
        return recipe.build(ImageSpec(1, 8, 8)).double()


def recalibrated(backbone, seed=0, **settings):
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    recalibrate(backbone, Noise(seed, "recalibrate", dtype=torch.float64), Recalibration(**settings))
    after = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    backbone.load_state_dict(before)
    return {name for name in before if not torch.equal(before[name], after[name])}, after


def test_every_batch_norm_of_the_decoder_moves_and_nothing_else(backbone):
    changed, _ = recalibrated(backbone, passes=3, rows=4)
    norms = [name for name, module in backbone.named_modules() if isinstance(module, BatchNorm)]
    assert any(name.startswith("encoder.") for name in norms)
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"{name}.{kind}" for name in norms if name.startswith("decoder.") for kind in kinds}


def test_modes_and_gradients_are_as_before(backbone):
    backbone.eval()
    backbone.decoder.groups[0].train()
    modes = [module.training for module in backbone.modules()]
    recalibrated(backbone, passes=1)
    assert [module.training for module in backbone.modules()] == modes
    assert all(module.together for module in backbone.modules() if isinstance(module, BatchNorm))
    assert all(p.requires_grad and p.grad is None for p in backbone.parameters())


def test_modes_are_as_before_after_a_failure(backbone):
    backbone.eval()
    with pytest.raises(AttributeError):
        recalibrate(backbone, None, Recalibration(passes=1))
    assert not any(module.training for module in backbone.modules())


def test_it_is_a_function_of_its_noise_and_settings(backbone):
    def after(**settings):
        return recalibrated(backbone, **settings)[1]["decoder.groups.1.cells.0.ops.0.norm.running_mean"]

    assert torch.equal(after(passes=2), after(passes=2))
    assert not torch.equal(after(passes=2), after(passes=2, seed=1))
    assert not torch.equal(after(passes=2), after(passes=2, temperature=0.5))
    assert not torch.equal(after(passes=2), after(passes=3))
    assert recalibrated(backbone)[0] == set()


def test_statistics_come_to_those_of_generated_batches(backbone):
    norm = backbone.decoder.groups[1].cells[0].ops[0].norm
    seen = []
    hook = norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    _, after = recalibrated(backbone, passes=100, rows=32)
    hook.remove()
    assert len(seen) == 100
    pooled = torch.cat(seen[-40:])
    name = "decoder.groups.1.cells.0.ops.0.norm.running"
    torch.testing.assert_close(after[f"{name}_mean"], pooled.mean((0, 2, 3)), atol=0.05, rtol=0.1)
    torch.testing.assert_close(after[f"{name}_var"], pooled.var((0, 2, 3)), atol=0.05, rtol=0.1)


# ---------------------------------------------------------------- the published code

VECTORS = Path(__file__).parents[2] / "vectors/nvae"
CIFAR = NVAE(
    channels=3,
    decoder_channels=4,
    groups=4,
    adaptive_groups=True,
    latent_channels=2,
    decoder_cells=1,
    flows=1,
    mixtures=2,
)
MNIST = NVAE(
    channels=2,
    groups=2,
    latent_channels=3,
    blocks=2,
    pre_cells=3,
    post_cells=3,
    encoder_cells=1,
    architecture="res_bnelu",
    squeeze_excite=False,
    residual_posterior=False,
    likelihood="bernoulli",
    pad=2,
)


class SameNoise:
    """Gives one u at every draw."""

    def __init__(self, u):
        self.u = u

    def derive(self, *path):
        return self

    def normal(self, rows, *shape):
        assert self.u.shape == (rows, *shape)
        return self.u


@pytest.mark.parametrize(
    ("name", "recipe", "images"),
    [("tiny_cifar", CIFAR, ImageSpec(3, 32, 32)), ("tiny_mnist", MNIST, ImageSpec(1, 28, 28))],
)
def test_three_passes_leave_the_published_codes_statistics(name, recipe, images):
    inputs, expected = (load_file(VECTORS / name / f"{part}.safetensors") for part in ("inputs", "expected"))
    official = load_file(VECTORS / name / "state_dict.safetensors")
    backbone = recipe.build(images).double()
    ours = {ours: official[theirs] for ours, theirs in official_names(backbone).items()}
    backbone.load_state_dict({**backbone.state_dict(), **ours})
    backbone.eval()
    u = torch.cat([inputs[f"u.{i}"].double().flatten(1) for i in range(len(backbone.layout))], dim=1)
    recalibrate(backbone, SameNoise(u), Recalibration(passes=3, rows=2, temperature=0.7))
    latents = backbone.latents(0.7 * u)
    logits = backbone.decoder.image(backbone.state(latents), latents.z[-1])
    reference = expected["bnadjust.logits_strided"]
    strided = logits if logits.shape == reference.shape else logits[:, :, ::4, ::4]
    torch.testing.assert_close(strided, reference, rtol=1e-9, atol=1e-9)
