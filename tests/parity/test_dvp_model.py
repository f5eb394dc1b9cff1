"""The whole DVP-VAE against the published code: a training pass with its gradients, a test pass, a draw.

The model with logistics is compared in float32, which the vectors were computed in: at random weights many levels have
tiny masses, differences of two float32 sigmoids, whose rounding moves log p(x) by 4e-4 of itself.
"""

import math

import pytest
import torch
from dvp_vectors import GRADIENT, NETWORK, PathNoise, backbone_state, close, load, unet_state, weights_of
from torch.nn import functional as F

from hebm.fixed import Fixed
from hebm.interfaces import Batch, ImageSpec, Progress, Request
from hebm.training.optimization import PhaseOptimization
from hebm.training.two_phase import BackbonePhase
from hebm_plugins.dvp.recipe import DVP
from hebm_plugins.priors.dvp.recipe import DVPDiffusion


class Model:
    """Backbone, prior and vectors of a file.

    Arguments:
        name: of the file.
    """

    def __init__(self, name):
        c = load(name)["config"]
        dtype = torch.float64 if c["lik"] == "bernoulli" else torch.float32
        self.v = v = {key: value.to(dtype) if torch.is_tensor(value) else value for key, value in load(name).items()}

        self.layers = sum(c["scales"])
        self.images = ImageSpec(c["C"], c["H"], c["H"], binary=c["lik"] == "bernoulli")
        recipe = DVP(
            latents=tuple(reversed(c["scales"])),
            full_resolution=c["start_at_x"],
            channels=c["num_ch"],
            growth=c["scale_mult"],
            bottleneck=c["block_mult"],
            encoder_blocks=c["enc_blocks"],
            decoder_blocks=c["dec_blocks"],
            context_size=c["S"],
            input_levels=(120.63838, 64.16736) if c["dset"] == "cifar10" else None,
            mixtures=c["num_mix"],
        )
        weights = weights_of(v)
        self.backbone = recipe.build(self.images).to(dtype)
        self.backbone.load_state_dict(backbone_state(weights, c))
        diffusion = DVPDiffusion(
            steps=c["T"],
            gamma_min=c["gmin"],
            gamma_max=c["gmax"],
            channels=c["unet_ch"],
            blocks=c["unet_res"],
        )
        self.prior = diffusion.build(self.backbone).to(dtype)
        unet = {key.removeprefix("unet."): value for key, value in weights.items() if key.startswith("unet.")}
        self.prior.diffusion.net.load_state_dict(unet_state(unet))
        self.batch = Batch(v["x"], self.target, None, torch.arange(len(v["x"])))

    @property
    def target(self):
        """x_target is 0 or 1 for Bernoulli pixels, where ours are −1 and 1."""
        return 2 * self.v["x_target"] - 1 if self.images.binary else self.v["x_target"]

    def flat(self, prefix):
        """Recorded ε_z, flat, top first."""
        return self.backbone.layout.join([self.v[f"{prefix}{i + 1}"] for i in range(self.layers)])

    def noise(self, kind):
        """Of the pass "noise" (training) or "test"."""
        v = self.v
        recorded = {("context",): v[f"{kind}.eps_u"], ("latents",): self.flat(f"{kind}.eps_z")}
        recorded |= {("first",): v[f"{kind}.diff_eps0"]}
        if kind == "noise":
            return PathNoise(recorded | {("middle",): v["noise.diff_eps"], ("time",): v["noise.diff_t"][:, 0]})
        return PathNoise(recorded | {("middle", k + 1): eps for k, eps in enumerate(v["test.diff_eps_T"])})


@pytest.fixture(params=["tiny_bernoulli", "tiny_mixture"])
def model(request):
    return Model(request.param)


def test_the_pseudo_input_and_the_encoder_are_the_published_ones(model):
    v, backbone = model.v, model.backbone
    pseudo = backbone.pseudo_input
    close(pseudo.coefficients(v["x"]), v["u_raw_dct"], NETWORK)
    close(pseudo.mean(v["x"]), v["u_mean"], NETWORK)
    close(pseudo.spread().expand_as(v["u_logvar"]), v["u_logvar"], NETWORK)
    c, log_r = pseudo.draw(v["x"], PathNoise({(): v["noise.eps_u"]}))
    close(c, v["u"], NETWORK)
    close(log_r, v["log_q_u"], NETWORK)
    close(pseudo.image(c), v["ctx_full"], NETWORK)
    features = {feature.shape[-1]: feature for feature in backbone.encoder(v["x"])}
    for i in range(model.layers):
        published = v[f"enc_feat_{i}"]
        close(features[published.shape[-1]], published, NETWORK)


def test_every_layer_of_the_ladder_is_the_published_one(model):
    v, backbone = model.v, model.backbone
    seen, features = backbone._seen(v["u"]), {f.shape[-1]: f for f in backbone.encoder(v["x"])}
    s = torch.ones_like(v["l1.s_in"])
    for i, layer in enumerate(backbone.layers):
        here = {key.removeprefix(f"l{i + 1}."): value for key, value in v.items() if key.startswith(f"l{i + 1}.")}
        close(s, here["s_in"], NETWORK)
        cond = seen[layer.size.size]
        close(cond, here["cond"], NETWORK)
        prior, residual = layer.prior_of(s, cond)
        posterior = layer.posterior_of(s, features[s.shape[-1]])
        for ours, name in ((prior, "p"), (posterior, "q")):
            close(ours.mean, here[f"{name}_mu"], NETWORK)
            close(2 * ours.std.log(), here[f"{name}_logvar"], NETWORK)
        z = posterior.at(v[f"noise.eps_z{i + 1}"])
        close(z, here["z"], NETWORK)
        close(posterior.kl(prior), here["kl"], NETWORK)
        s = layer.advanced(s, residual, z)
        close(s, here["s_out"], NETWORK)


def test_the_likelihood_head_is_the_published_one(model):
    v, backbone = model.v, model.backbone
    posterior = backbone.infer(model.batch, model.noise("noise"))
    close(torch.cat([(posterior.log_r - v["log_p_u"])[:, None], posterior.kl], dim=1), v["kl_all"], NETWORK)
    aggregated = backbone.aggregated(posterior.latents.z)
    close(aggregated, v["agg_in"], NETWORK)
    close(backbone.head.mix(aggregated), v["agg_out"], NETWORK)
    close(backbone.head(aggregated), v["head"], NETWORK)
    likelihood = backbone.likelihood(posterior.latents)
    close(likelihood.log_prob(model.target), v["log_p_x"], NETWORK)
    if "px_prob" in v:
        close(0.5 * (likelihood.mean + 1), v["px_prob"], NETWORK)
    terms = model.prior.diffusion.terms(v["u"], v["noise.diff_eps0"], v["noise.diff_t"][:, 0], v["noise.diff_eps"])
    close(-sum(part.flatten(1) for part in terms), v["log_p_u_elem"], NETWORK)
    close(terms.log_prob, v["log_p_u"], NETWORK)
    close(v["log_p_x"] - v["kl_all"].sum(1), v["elbo_per_sample"], NETWORK)


class OneNoise(PathNoise):
    """The same recorded tensors for backbone and prior."""

    def derive(self, *path):
        return PathNoise(self.tensors) if path in (("backbone",), ("prior",)) else super().derive(*path)


def test_the_loss_and_its_gradients_are_the_published_ones(model, monkeypatch):
    v, backbone, prior = model.v, model.backbone, model.prior
    monkeypatch.setattr(prior, "_kept", lambda rows, noise: None)
    phase = BackbonePhase(backbone, prior, prior.stages(), PhaseOptimization(), unit="bits/dim")
    loss = phase(model.batch, OneNoise(model.noise("noise").tensors), Progress(0, 1))
    close(loss.total, v["loss_bpd"], NETWORK)
    dimension = math.log(2) * model.batch.x[0].numel()
    close(loss.total * dimension, v["loss_nats"], NETWORK)
    close(loss.terms["reconstruction"], v["rec_nats"], NETWORK)
    close(loss.terms["kl"] + loss.terms["log_r"] - loss.terms["log_p_context"], v["kl_nats"], NETWORK)
    loss.total.backward()
    trained = [p for group in phase.groups.values() for p in group.parameters().values()]
    close(torch.stack([p.grad.square().sum() for p in trained]).sum().sqrt(), v["grad_norm"], GRADIENT)
    ours = {
        "enc.stem.w": backbone.encoder.stem.weight,
        "dec.1.prior.conv3.w": backbone.layers[0].prior.last.weight,
        "dec.1.post.skip.w": backbone.layers[0].posterior.skip.weight,
        f"dec.{model.layers}.prior.skip.w": backbone.layers[-1].prior.skip.weight,
        "agg.w": backbone.head.mix.weight,
        "out.b": backbone.head.out.bias,
        "unet.stem.w": prior.diffusion.net.stem.weight,
        "unet.final.conv.w": prior.diffusion.net.out.weight,
    }
    published = {key.removeprefix("grad."): value for key, value in v.items() if key.startswith("grad.")}
    for name, parameter in ours.items():
        close(parameter.grad, published.pop(name), GRADIENT)
    close(backbone.pseudo_input.log_var.grad, published.pop("u.logvar")[0], GRADIENT)
    assert not published


def test_parameters_that_get_no_gradient_are_those_of_the_published_code_and_are_not_trained(model):
    names = {f"layers.{model.layers - 1}.zup.weight", f"layers.{model.layers - 1}.zup.bias"}
    assert model.v["zero_grad_params"] == [f"dec.{model.layers}.zup.w", f"dec.{model.layers}.zup.b"]
    assert {name for name, p in model.backbone.named_parameters() if not p.requires_grad} == names
    phase = BackbonePhase(model.backbone, model.prior, model.prior.stages(), PhaseOptimization(), unit="bits/dim")
    assert not names & set(phase.groups["backbone"].parameters())


def test_the_published_evaluation_is_reproduced(model):
    v, noise = model.v, model.noise("test")
    posterior = model.backbone.infer(model.batch, noise)
    log_p = model.prior.published_bound(posterior.latents.context, noise)
    kl = torch.cat([(posterior.log_r - log_p)[:, None], posterior.kl], dim=1)
    close(kl, v["test.kl_all"], NETWORK)
    log_p_x = model.backbone.likelihood(posterior.latents).log_prob(model.target)
    close(log_p_x, v["test.log_p_x"], NETWORK)
    close(log_p_x - kl.sum(1), v["test.elbo"], NETWORK)


def test_generation_is_the_published_one(model):
    v, backbone, prior = model.v, model.backbone, model.prior
    steps = prior.diffusion.steps
    recorded = {("context", "start"): v["gen.u_init"], ("latents",): model.flat("gen.eps_z")}
    recorded |= {("context", k): v["gen.u_noise"][steps - k] for k in range(1, steps + 1)}
    draw = prior.sample(backbone, len(v["gen.u"]), PathNoise(recorded))
    close(draw.context, v["gen.u"], NETWORK)
    latents = backbone.latents(draw.u, draw.context)
    for i, z in enumerate(latents.z):
        close(z, v[f"gen.z{i + 1}"], NETWORK)
    likelihood = backbone.likelihood(latents)
    published = likelihood.logits.sigmoid() if model.images.binary else likelihood.logits
    close(published, v["gen.param0"], NETWORK)


def test_a_given_context_and_fixed_coordinates_stay_as_they_are(model):
    backbone, n = model.backbone, len(model.v["u"])
    mask = torch.zeros(backbone.layout.dim, dtype=torch.bool)
    mask[:2] = True
    given = 3 + model.flat("gen.eps_z")
    request = Request(context=model.v["u"], fixed=Fixed(given, mask))
    draw = model.prior.sample(backbone, n, PathNoise({("latents",): model.flat("gen.eps_z")}), request)
    assert draw.context is request.context
    assert torch.equal(draw.u[:, :2], given[:, :2])
    assert torch.equal(draw.u[:, 2:], model.flat("gen.eps_z")[:, 2:])


def test_the_context_image_is_averaged_over_whole_patches(model):
    image = model.backbone.pseudo_input.image(model.v["u"])
    for size, seen in model.backbone._seen(model.v["u"]).items():
        close(seen, F.avg_pool2d(image, image.shape[-1] // size[0]), NETWORK)
