"""Three small VDVAEs against the published code's numbers: posterior, likelihood, gradients, generation, samples."""

import gzip
import json
import math

import pytest
import torch
from nvae_vectors import close
from safetensors.torch import load_file
from vdvae_vectors import MODELS, VECTORS, Case, close_map, read_json, recipe_of, thinned

from hebm.interfaces import ImageSpec
from hebm.layerwise import given_layers, scaled
from hebm_plugins.pixels.bits import reduce_bits
from hebm_plugins.pixels.logistic_mixture import LogisticMixturePixels
from hebm_plugins.vdvae.normalisation import PUBLISHED, Given
from hebm_plugins.vdvae.presets import PRESETS
from hebm_plugins.vdvae.recipe import SCORING, VDVAE
from hebm_plugins.vdvae.structure import parse_blocks, parse_widths


@pytest.fixture(params=MODELS)
def case(request):
    return Case(request.param)


@pytest.fixture
def published(case):
    return case.expected


def test_the_state_dict_has_the_published_names_in_order(case):
    official = torch.load(VECTORS / case.name / "model-ema.th", weights_only=True)
    assert list(case.backbone.state_dict()) == list(official)
    assert sum(parameter.numel() for parameter in case.backbone.parameters()) == case.config["params"]
    assert [list(shape) for shape in case.backbone.layout.shapes] == case.config["layers_top_first"]
    assert case.backbone.layout.dim == case.config["D"]


@torch.no_grad()
def test_the_encoder_is_the_published_one(case, published):
    close_map(case.backbone.normalisation(case.images), published["in.encoder"])
    bits = 5 if case.config["dataset"] == "ffhq_256" else 8
    close_map(reduce_bits(case.images, bits, spread=SCORING.spread), published["in.target"])
    for side, found in case.backbone.encode(case.images).items():
        close_map(found, published[f"enc.act.{side}"])


@torch.no_grad()
def test_each_layers_prior_and_posterior_are_the_published_ones(case, published):
    xi = case.backbone.layout.split(case.noise("eps"))
    seen = []

    def choose(i, layer):
        q, p = layer.posterior, layer.prior
        for name, found in (
            ("q_mu", q.mean),
            ("q_logsigma", q.std.log()),
            ("p_mu", p.mean),
            ("p_logsigma", p.std.log()),
        ):
            close_map(found.expand_as(q.mean), published[f"post.{name}.{i}"])
        close_map(layer.state.x - layer.feature, published[f"post.xpp.{i}"])
        seen.append(i)
        return q.at(xi[i])

    case.backbone.descend(case.images, choose, evidence=case.backbone.encode(case.images))
    assert seen == list(case.layers)


@torch.no_grad()
def test_the_posterior_and_its_bounds_are_the_published_ones(case, published):
    posterior = case.posterior()
    for i, z in enumerate(posterior.latents.z):
        close_map(z, published[f"post.z.{i}"])
        close_map(case.backbone.layout.split(posterior.latents.u)[i], published[f"post.u.{i}"])
    close(posterior.kl, published["post.kl"])
    last = case.backbone.last_feature(posterior.latents)
    decoder = case.backbone.decoder
    close_map(last * decoder.gain + decoder.bias, published["post.px_z"])
    close_map(decoder.image(last), published["post.logits"])
    likelihood = case.backbone.likelihood(posterior.latents)
    log_px = likelihood.log_prob(case.images)
    close(log_px, published["post.log_px"])
    pixels = likelihood.log_prob_map(case.images)
    close(pixels[..., ::4, ::4], published["post.log_prob_map_strided"])
    close(pixels[:, 0, :8].sum(1), published["post.log_prob_edge_pixels"])
    dims = case.scalars["ndims"]
    close(-log_px / dims, published["post.distortion"])
    close(posterior.kl.sum(1) / dims, published["post.rate"])
    close((posterior.kl.sum(1) - log_px) / dims / math.log(2), published["post.bpd"])


@torch.no_grad()
def test_inverting_the_posterior_draw_finds_the_same_u(case):
    latents = case.posterior().latents
    close(case.backbone.invert(latents.z).u, latents.u, 1e-12)


def test_the_gradients_are_the_published_ones(case, published):
    posterior = case.posterior()
    log_px = case.backbone.likelihood(posterior.latents).log_prob(case.images)
    loss = (posterior.kl.sum(1) - log_px).mean() / case.scalars["ndims"]
    close(loss, case.scalars["elbo_nats_per_dim"])
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in case.backbone.named_parameters()}
    assert gradients.keys() == case.scalars["grad_l2"].keys()
    for name, grad in gradients.items():
        close(grad.norm(), case.scalars["grad_l2"][name])
        if f"grad.{name}" in published:
            close(grad, published[f"grad.{name}"])


@torch.no_grad()
@pytest.mark.parametrize("temperature", ["1.0", "0.7"])
def test_generation_is_the_published_one(case, published, temperature):
    latents = case.backbone.latents(float(temperature) * case.noise("u"))
    kind = f"gen_t{temperature}"
    for i, z in enumerate(latents.z):
        if f"{kind}.z.{i}" in published:
            close_map(z, published[f"{kind}.z.{i}"])
    decoder = case.backbone.decoder
    close_map(case.backbone.last_feature(latents) * decoder.gain + decoder.bias, published[f"{kind}.px_z"])
    mixture, logistic = (case.inputs[f"dec_u_{name}"].to(case.dtype) for name in ("mix", "logistic"))
    sample = case.backbone.likelihood(latents).from_uniforms(mixture, logistic)
    close_map(sample, published[f"{kind}.sample"])
    if f"{kind}.sample_uint8" in published:
        levels = ((sample + 1) * 127.5).clamp(0, 255).to(torch.uint8)
        assert torch.equal(levels, published[f"{kind}.sample_uint8"])


def test_the_gradient_of_the_transform_is_the_published_one(case, published):
    u = case.noise("u").requires_grad_()
    value = sum(z.sin().sum() for z in case.backbone.latents(u).z)
    close(value, case.scalars["grad_test_F"])
    value.backward()
    for i, grad in enumerate(case.backbone.layout.split(u.grad)):
        close_map(grad, published[f"gen_t1.0.dF_du.{i}"])


@torch.no_grad()
def test_one_temperature_per_layer_is_the_published_one(case, published):
    temperatures = published["gen_list.temperatures"].tolist()
    latents = case.backbone.latents(scaled(case.noise("u"), temperatures, case.backbone.layout))
    decoder = case.backbone.decoder
    close_map(case.backbone.last_feature(latents) * decoder.gain + decoder.bias, published["gen_list.px_z"])


@torch.no_grad()
def test_generation_from_given_upper_layers_is_the_published_one(case, published):
    partial, layout = case.scalars["partial"], case.backbone.layout
    given = given_layers(layout, case.posterior().latents, partial["given_layers"], 2)
    latents = case.backbone.latents(given.apply(partial["t"] * case.noise("u")))
    decoder = case.backbone.decoder
    close_map(case.backbone.last_feature(latents) * decoder.gain + decoder.bias, published["partial.px_z"])


@torch.no_grad()
def test_single_precision_is_close(case, published):
    single = Case(case.name, torch.float32)
    posterior = single.posterior()
    log_px = single.backbone.likelihood(posterior.latents).log_prob(single.images)
    torch.testing.assert_close(posterior.kl, published["f32.post.kl"].float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        -log_px / case.scalars["ndims"], published["f32.post.distortion"].float(), rtol=2e-5, atol=0
    )
    decoder = single.backbone.decoder
    last = single.backbone.last_feature(posterior.latents) * decoder.gain + decoder.bias
    for name, found in {"post.px_z": last, **{f"post.z.{i}": z for i, z in enumerate(posterior.latents.z)}}.items():
        expected = published[name].float()
        torch.testing.assert_close(thinned(found, expected), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("bits", [8, 5])
@pytest.mark.parametrize("mixtures", [1, 2, 4])
def test_the_mixture_of_logistics_is_the_published_one(mixtures, bits):
    vectors = load_file(VECTORS / "unit" / "dmol.safetensors")
    of = {key.split(".", 2)[2]: value for key, value in vectors.items() if key.startswith(f"m{mixtures}.b{bits}.")}
    logits = of["logits"].double().requires_grad_()
    images = of["levels"].double() / 127.5 - 1
    pixels = LogisticMixturePixels(logits, bits, SCORING)
    log_prob = pixels.log_prob_map(images)
    close(log_prob, of["log_prob_map"])
    nll = -log_prob.flatten(1).sum(1) / images[0].numel()
    close(nll, of["nll_per_dim"])
    nll.sum().backward()
    sample = pixels.from_uniforms(of["u_mix"].double(), of["u_logistic"].double())
    close(sample, of["sample"])
    close(logits.grad, of["grad_nll_sum"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_constants_standardise_every_level(name):
    vectors = load_file(VECTORS / "unit" / "normalisation.safetensors")
    key = {"ffhq256": "ffhq_256", "ffhq1024": "ffhq_1024"}.get(name, name)
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    close(Given(PUBLISHED[name])(levels).reshape(-1), vectors[f"{key}.encoder"].reshape(-1))
    close(Given(PUBLISHED[name])(levels.float()).reshape(-1), vectors[f"{key}.encoder_f32"].reshape(-1), 1e-6)


STRUCTURE = read_json("unit/structure")


@pytest.mark.parametrize(("text", "blocks"), STRUCTURE["layer_strings"].items())
def test_layer_strings_are_read_as_published(text, blocks):
    letter = "d" if "d" in text else "m"
    assert [list(block) for block in parse_blocks(text, letter, "key")] == blocks


@pytest.mark.parametrize("given", STRUCTURE["width_strings"], ids=lambda given: given["string"])
def test_width_strings_are_read_as_published(given):
    widths = parse_widths(given["string"])
    assert {side: widths.get(int(side), given["width"]) for side in given["at"]} == given["at"]


def test_the_initialisation_is_the_published_one():
    config, rules = STRUCTURE["init"]["config"], STRUCTURE["init"]["rules"]
    recipe = VDVAE(
        encoder=config["enc_blocks"],
        decoder=config["dec_blocks"],
        width=config["width"],
        latent_channels=config["zdim"],
        mixtures=config["num_mixtures"],
        bottleneck=config["bottleneck_multiple"],
        normalisation="cifar10",
    )
    torch.manual_seed(0)
    parameters = dict(recipe.build(ImageSpec(3, config["image_size"], config["image_size"])).named_parameters())
    assert parameters.keys() == rules.keys()
    for name, rule in rules.items():
        value = parameters[name].detach()
        if "constant" in rule:
            assert (value == rule["constant"]).all(), name
        else:
            bound = rule["uniform"]
            assert value.abs().max() <= bound * (1 + 1e-6), name
            assert value.abs().max() > 0.9 * bound, name
            assert abs(value.mean()) < 0.1 * bound or value.numel() < 500, name


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_have_the_published_names_and_shapes(name):
    manifest = json.loads(gzip.decompress((VECTORS / "manifests" / f"{name}.json.gz").read_bytes()))
    preset = PRESETS[name]
    with torch.device("meta"):
        backbone = VDVAE(**preset.backbone).build(ImageSpec(3, preset.side, preset.side))
    assert {key: list(value.shape) for key, value in backbone.state_dict().items()} == manifest["state_dict"]
    assert list(backbone.state_dict()) == list(manifest["state_dict"])
    assert [list(shape) for shape in backbone.layout.shapes] == manifest["layers_top_first"]
    assert recipe_of({**manifest["config"], "dataset": "cifar10"}).structure(preset.side) == VDVAE(
        **preset.backbone
    ).structure(preset.side)
