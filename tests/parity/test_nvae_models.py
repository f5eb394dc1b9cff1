"""Two small NVAE against the published code's numbers: posterior, generation, training step, re-estimated BatchNorm."""

import math
from pathlib import Path

import pytest
import torch
from nvae_vectors import close, load, read_json
from safetensors.torch import load_file

from hebm.interfaces import Batch, ImageSpec, Progress
from hebm.latents import Latents
from hebm.likelihoods import BernoulliPixels
from hebm_plugins.nvae.convolutions import kernel_of
from hebm_plugins.nvae.decoder import Raw
from hebm_plugins.nvae.objective import NVAEObjective, balance_coefficients, scale_weights
from hebm_plugins.nvae.official.names import official_names
from hebm_plugins.nvae.recipe import NVAE
from hebm_plugins.nvae.spectral import SpectralSum, batch_norm_penalty

VECTORS = Path(__file__).parent.parent / "vectors" / "nvae"
CIFAR = NVAE(
    channels=3,
    decoder_channels=4,
    scales=2,
    groups=4,
    adaptive_groups=True,
    latent_channels=2,
    blocks=1,
    pre_cells=2,
    post_cells=2,
    encoder_cells=2,
    decoder_cells=1,
    flows=1,
    mixtures=2,
)
MNIST = NVAE(
    channels=2,
    scales=2,
    groups=2,
    latent_channels=3,
    blocks=2,
    pre_cells=3,
    post_cells=3,
    encoder_cells=1,
    decoder_cells=2,
    architecture="res_bnelu",
    squeeze_excite=False,
    residual_posterior=False,
    likelihood="bernoulli",
    pad=2,
)
MODELS = {"tiny_cifar": (CIFAR, ImageSpec(3, 32, 32)), "tiny_mnist": (MNIST, ImageSpec(1, 28, 28, binary=True))}


class Fed:
    """One recorded draw in place of noise."""

    def __init__(self, value):
        self.value = value

    def normal(self, rows, *shape):
        assert self.value.shape == (rows, *shape)
        return self.value


class Case:
    """A published model, its inputs and what it should give."""

    def __init__(self, name, dtype=torch.float64):
        self.name, self.dtype = name, dtype
        recipe, images = MODELS[name]
        self.backbone = recipe.build(images).to(dtype).eval()
        theirs = load_file(VECTORS / name / "state_dict.safetensors")
        self.names = official_names(self.backbone)
        assert set(self.names.values()) == set(theirs)
        tensors = {ours: theirs[key] for ours, key in self.names.items()}
        missing, surplus = self.backbone.load_state_dict(tensors, strict=False)
        assert not surplus
        assert all(key.startswith("spectral.") for key in missing)
        self.inputs, self.expected = load(f"{name}/inputs"), load(f"{name}/expected")
        self.scalars = read_json(f"{name}/expected")

    @property
    def groups(self):
        return range(len(self.backbone.layout))

    def noise(self, kind):
        """The flat tensor of "eps" or "u"."""
        return self.backbone.layout.join([self.inputs[f"{kind}.{i}"] for i in self.groups]).to(self.dtype)

    @property
    def images(self):
        """In [−1, 1], without padding."""
        x = self.inputs["x_uint8"].to(self.dtype)
        if self.name == "tiny_mnist":
            assert x[..., :2, :].sum() == 0
            x = x[..., 2:30, 2:30] * 255
        return x / 255 * 2 - 1

    @property
    def batch(self):
        return Batch(self.images, self.images, None, torch.arange(2))

    def posterior(self):
        return self.backbone.infer(self.batch, Fed(self.noise("eps")))

    def generate(self, temperature=1.0):
        return self.backbone.latents(temperature * self.noise("u"))

    def logits(self, latents: Latents):
        """The image's parameters, padding included."""
        return self.backbone.decoder.image(self.backbone.state(latents), latents.z[-1])

    def strided(self, image):
        return image if self.name == "tiny_mnist" else image[..., ::4, ::4]

    def layers(self, key):
        return [self.expected[f"{key}.{i}"] for i in self.groups]


@pytest.fixture(params=MODELS)
def case(request):
    torch.manual_seed(0)
    return Case(request.param)


@pytest.fixture
def published(case):
    return case.expected


def all_close(actual, expected, tolerance=1e-9):
    for mine, theirs in zip(actual, expected, strict=True):
        close(mine.expand_as(theirs), theirs, tolerance)


@torch.no_grad()
def test_the_posterior_is_the_published_one(case, published):
    posterior = case.posterior()
    all_close(posterior.latents.z, case.layers("post.z"))
    all_close(case.backbone.layout.split(posterior.latents.u), case.layers("post.u"))
    all_close(posterior.latents.sigma, case.layers("post.p_sigma"))
    close(posterior.kl, published["post.kl"])
    close(posterior.log_q.sum(1), published["post.log_q"])
    close(posterior.latents.root_log_prob, published["post.log_p"])
    close(case.strided(case.logits(posterior.latents)), published["post.logits_strided"])


@torch.no_grad()
def test_each_groups_posterior_and_prior_are_the_published_ones(case, published):
    backbone, xi = case.backbone, case.backbone.layout.split(case.noise("eps"))
    features = backbone.encode(case.images)

    def choose(i, layer):
        q, group = layer.posterior, backbone.encoder.groups[i]
        prior = backbone.decoder.groups[i].prior(layer.feature)[0] if backbone.encoder.residual else None
        raw: Raw = group.raw(features[i], layer.feature, prior)
        if f"post.q_raw_mu.{i}" in published:
            close(raw.mean, published[f"post.q_raw_mu.{i}"])
        all_close(
            (q.mean, q.std, layer.prior.mean, layer.prior.std),
            [published[f"post.{key}.{i}"] for key in ("q_mu", "q_sigma", "p_mu", "p_sigma")],
        )
        before = q.at(xi[i])
        if backbone.structure.flows:
            close(before, published[f"post.z_before_flow.{i}"])
        return group.transport(before)

    backbone.descend(case.images, choose, evidence=backbone.encode(case.images))


@torch.no_grad()
def test_the_likelihood_and_its_bounds_are_the_published_ones(case, published):
    posterior = case.posterior()
    likelihood = case.backbone.likelihood(posterior.latents)
    log_px = likelihood.log_prob(case.images)
    close(log_px, published["post.log_px"])
    elbo = log_px - posterior.kl.sum(1)
    close(elbo, published["post.elbo"])
    close(-elbo / math.log(2) / case.scalars["num_output_dims"], published["post.bpd"])
    weight = log_px + posterior.latents.root_log_prob - posterior.log_q.sum(1)
    close(weight, published["post.log_iw"])


@torch.no_grad()
def test_the_kl_of_each_channel_is_the_published_one(case, published):
    """Σ over positions, mean over images: analytic without flows, else log q(z before) − log p(z after)."""
    backbone, xi, found = case.backbone, case.backbone.layout.split(case.noise("eps")), []

    def element_log_prob(normal, value):
        return torch.distributions.Normal(normal.mean, normal.std, validate_args=False).log_prob(value)

    def choose(i, layer):
        q, prior = layer.posterior, layer.prior
        before = q.at(xi[i])
        z = backbone.encoder.groups[i].transport(before)
        analytic = torch.distributions.kl_divergence(*(torch.distributions.Normal(*n) for n in (q, prior)))
        sampled = element_log_prob(q, before) - element_log_prob(prior, z)
        found.append((sampled if backbone.structure.flows else analytic).sum((2, 3)).mean(0))
        return z

    backbone.descend(case.images, choose, evidence=backbone.encode(case.images))
    close(torch.stack(found), published["post.kl_diag"])
    close(case.posterior().kl.mean(0), published["post.kl_diag"].sum(1))


@torch.no_grad()
def test_log_probability_maps_are_the_published_ones(case, published):
    logits = case.logits(case.posterior().latents)
    if case.name == "tiny_mnist":
        x = torch.nn.functional.pad(case.images, (2, 2, 2, 2), value=-1.0)
        bits = (x + 1) / 2
        terms = bits * logits - torch.nn.functional.softplus(logits)
        close(terms[..., ::4, ::4], published["post.log_prob_map_strided"])
    else:
        scored = case.backbone.pixels(logits).log_prob_map(case.images)
        close(scored[..., ::4, ::4], published["post.log_prob_map_strided"])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@torch.no_grad()
def test_generation_is_the_published_one(case, published, temperature):
    key, latents = f"gen_t{temperature}", case.generate(temperature)
    all_close(latents.z, case.layers(f"{key}.z"))
    for i in case.groups:
        if f"{key}.p_sigma.{i}" in published:
            sigma = published[f"{key}.p_sigma.{i}"]
            close((temperature * latents.sigma[i]).expand_as(sigma), sigma)
    close(case.strided(case.logits(latents)), published[f"{key}.logits_strided"])
    # log p under the prior whose σ is τσ: that of u / τ, less log τ per dimension
    at = case.backbone.invert(latents.z)
    log_p = Latents(at.u / temperature, at.z, at.sigma).root_log_prob - at.u.shape[1] * math.log(temperature)
    close(log_p, published[f"{key}.log_p_total"])


@torch.no_grad()
def test_prior_means_are_the_published_ones(case, published):
    latents = case.generate()
    for i, (u, z, sigma) in enumerate(
        zip(case.backbone.layout.split(latents.u), latents.z, latents.sigma, strict=True)
    ):
        if f"gen_t1.0.p_mu.{i}" in published:
            close(z - sigma * u, published[f"gen_t1.0.p_mu.{i}"])


def test_gradients_through_t_are_the_published_ones(case):
    u = case.noise("u").requires_grad_()
    value = sum(z.sin().sum() for z in case.backbone.latents(u).z)
    close(value, case.scalars["grad_test_F"])
    (grad,) = torch.autograd.grad(value, u)
    all_close(case.backbone.layout.split(grad), case.layers("gen_t1.0.dF_du"))


@torch.no_grad()
def test_images_are_the_published_ones(case, published):
    latents = case.generate()
    if case.name == "tiny_mnist":
        mean = (BernoulliPixels(case.logits(latents)).mean + 1) / 2
        close(mean, published["gen_t1.0.mean"])
        close((case.backbone.likelihood(latents).mean + 1) / 2, published["gen_t1.0.mean"][..., 2:30, 2:30])
        cold = (BernoulliPixels(case.logits(case.generate(0.7))).mean + 1) / 2
        close(cold, published["gen_t0.7.mean"])
        return
    likelihood = case.backbone.likelihood(latents)
    close(case.strided((likelihood.mean + 1) / 2), published["gen_t1.0.mean"])
    uniforms = (case.inputs["dec_u_mix"].double(), case.inputs["dec_u_logistic"].double())
    close((likelihood.from_uniforms(*uniforms) + 1) / 2, published["gen_t1.0.sample"])
    cooled = (likelihood.from_uniforms(*uniforms, temperature=0.7) + 1) / 2
    close(case.strided(cooled), published["gen_t1.0.sample_dect0.7"])
    cold = case.backbone.likelihood(case.generate(0.7))
    close(case.strided((cold.from_uniforms(*uniforms) + 1) / 2), published["gen_t0.7.sample"])


@torch.no_grad()
def test_t_and_its_inverse_are_inverse(case):
    latents = case.generate()
    close(case.backbone.invert(latents.z).u, latents.u, 1e-11)


@torch.no_grad()
def test_re_estimated_batch_norm_is_the_published_one(case, published):
    backbone, u = case.backbone, 0.7 * case.noise("u")
    backbone.train()
    for _ in range(3):
        case.backbone.likelihood(backbone.latents(u))
    backbone.eval()
    close(case.strided(case.logits(backbone.latents(u))), published["bnadjust.logits_strided"])


@torch.no_grad()
def test_the_folded_copy_is_equal(case):
    posterior, latents = case.posterior(), case.generate()
    twin = case.backbone.folded()
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    again = twin.infer(case.batch, Fed(case.noise("eps")))
    close(again.latents.u, posterior.latents.u, 1e-12)
    close(twin.latents(latents.u).flat_z, latents.flat_z, 1e-12)
    again = twin.latents(latents.u)
    logits = twin.decoder.image(twin.state(again), again.z[-1])
    close(logits, case.logits(latents), 1e-12)


@torch.no_grad()
def test_kl_balancing_is_the_published_one(case, published):
    groups, kl = case.backbone.structure.groups, published["post.kl"]
    close(scale_weights(groups), published["loss.alpha"], 1e-7)
    coefficients = balance_coefficients(kl, groups)
    close(coefficients, published["loss.kl_coeffs"], 1e-7)
    if "loss.kl_balanced_at_coeff_0.3" in published:
        close(0.3 * (coefficients * kl).sum(1), published["loss.kl_balanced_at_coeff_0.3"], 1e-7)


def test_norm_penalties_are_the_published_ones(case):
    assert len(case.backbone.convolutions()) == case.scalars["num_conv_layers"]
    close(batch_norm_penalty(case.backbone.modules()), case.scalars["bn_loss"])
    kernels = [kernel_of(conv).detach() for conv in case.backbone.convolutions()]
    exact = sum(torch.linalg.matrix_norm(kernel.flatten(1), ord=2) for kernel in kernels)
    close(exact, case.scalars["spectral_sum_exact"])
    estimate = SpectralSum([kernel.shape for kernel in kernels]).double()(kernels, 40)
    assert 0.998 * exact <= estimate <= exact * (1 + 1e-12)


AT_BETA = 0.3


def training_step(case):
    """One forward and backward in training mode at β = 0.3, without norm penalties."""
    backbone = case.backbone.train()
    backbone.settings = NVAEObjective(kl_warmup=1.0, kl_hold=0.0, norm_penalty=0.0)
    loss = backbone.objective(case.batch, Fed(case.noise("eps")), Progress(3, 10))
    loss.total.backward()
    return loss


def test_a_training_step_is_the_published_one(case):
    expected = case.scalars["train"]
    loss = training_step(case)
    close(loss.terms["kl_coefficient"], AT_BETA)
    close(loss.terms["reconstruction"], sum(expected["recon"]) / 2, 1e-7)
    close(loss.total, expected["loss"], 1e-7)
    close(loss.total - loss.terms["reconstruction"], sum(expected["kl_balanced"]) / 2, 1e-7)
    gradients = {name: p.grad.norm() for name, p in case.backbone.named_parameters() if p.grad is not None}
    assert {case.names[name] for name in gradients} == set(expected["grad_l2"])
    for name, norm in gradients.items():
        theirs = expected["grad_l2"][case.names[name]]
        if theirs < 1e-12:
            assert norm < 1e-9, name
        else:
            assert abs(norm - theirs) <= 1e-7 * theirs, name


def test_the_first_adamax_update_is_the_published_one(case):
    expected = case.scalars["train"]["adamax_delta_l2"]
    gradients = case.scalars["train"]["grad_l2"]
    parameters = dict(case.backbone.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = torch.optim.Adamax(parameters.values(), lr=1e-2, eps=1e-3, weight_decay=3e-4)
    training_step(case)
    optimizer.step()
    assert {case.names[name] for name in parameters} == set(expected)
    for name, parameter in parameters.items():
        theirs = expected[case.names[name]]
        if gradients[case.names[name]] >= 1e-12:
            assert abs((parameter - before[name]).norm() - theirs) <= 1e-7 * theirs, name


def test_running_statistics_after_a_step_are_the_published_ones(case):
    training_step(case)
    state, expected = case.backbone.state_dict(), case.scalars["train"]
    checked = 0
    for ours, theirs in case.names.items():
        for kind in ("running_mean", "running_var"):
            if ours.endswith(kind):
                norm = expected[f"bn_{kind}_l2"][theirs]
                assert abs(state[ours].norm() - norm) <= 1e-7 * norm, ours
                checked += 1
    assert checked == 2 * case.scalars["num_bn_layers"]


def test_every_part_puts_out_what_the_published_one_does(case):
    """Shape, mean, deviation and norm of every cell, combiner, flow and sampler in the posterior pass."""
    seen = {}

    def keep(key, tensor):
        seen.setdefault(key, tensor.detach())

    for prefix in case.scalars["cells"]:
        if is_sum(case, prefix):  # of the encoder's feature and the combiner's: what the group's sampler reads
            group = part_of(case, prefix).normal
            group.register_forward_pre_hook(lambda _m, inputs, key=prefix: keep(key, inputs[0]))
        else:
            part_of(case, prefix).register_forward_hook(lambda _m, _i, out, key=prefix: keep(key, out))
    with torch.no_grad():
        case.logits(case.posterior().latents)
    for prefix, figures in case.scalars["cells"].items():
        out = torch.nn.functional.elu(seen[prefix]) if prefix == "enc0" else seen[prefix]
        assert list(out.shape) == figures["shape"], prefix
        close(out.mean(), figures["mean"])
        close(out.std(), figures["std"])
        close(out.norm(), figures["l2"])


def part_of(case, prefix):
    """The module here of a published prefix."""
    wanted = {"enc0": "enc0.1", "image_conditional": "image_conditional.1"}.get(prefix, prefix)
    if wanted.startswith("dec_sampler"):
        wanted += ".1"
    ours = next(name for name, theirs in case.names.items() if theirs.startswith(wanted + "."))
    path = ours.split(".")
    lengths = {"groups": 4, "steps": 5, "pre": 3, "post": 3}
    size = lengths.get(path[1], 2)
    if "up" in path[:4] or "down" in path[:4]:
        size = 4
    if path[0] == "decoder" and "cells" in path[:4]:
        size = 5
    if "flows" in path:
        size = 5
    if is_sum(case, prefix):
        size = 3
    return case.backbone.get_submodule(".".join(path[:size]))


def is_sum(case, prefix):
    return prefix.startswith("enc_tower") and any(
        theirs.startswith(f"{prefix}.conv.") for theirs in case.names.values()
    )


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_float32_agrees_with_the_published_float32(name):
    case = Case(name, torch.float32)
    posterior = case.posterior()
    all_close(posterior.latents.z, case.layers("post.z"), 1e-5)
    logits = case.logits(posterior.latents)
    assert (logits - case.expected["f32.post.logits"]).abs().max() <= 2e-5
    kl, log_px = case.expected["f32.post.kl"], case.expected["f32.post.log_px"]
    assert ((posterior.kl - kl).abs() <= 1e-5 * kl.abs()).all()
    mine = case.backbone.likelihood(posterior.latents).log_prob(case.images)
    assert ((mine - log_px).abs() <= 1e-5 * log_px.abs()).all()
    for temperature in (1.0, 0.7):
        logits = case.strided(case.logits(case.generate(temperature)))
        assert (logits - case.expected[f"f32.gen_t{temperature}.logits_strided"]).abs().max() <= 2e-5


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_folded_copy_is_equal_to_1e_5_in_float32(name):
    case = Case(name, torch.float32)
    u = case.noise("u")
    assert (case.backbone.folded().latents(u).flat_z - case.backbone.latents(u).flat_z).abs().max() <= 1e-5
