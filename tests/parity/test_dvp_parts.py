"""DVP-VAE's parts against the published code: DCT, schedules, diffusion, distributions, noise predictor."""

import numpy as np
import pytest
import torch
from dvp_vectors import DCT, EXACT, NETWORK, close, load, unet_state, weights_of
from scipy.fft import dctn, idctn
from torch.nn import functional as F

from hebm.data.images import ArrayImages
from hebm.interfaces import ImageSpec
from hebm.likelihoods import BernoulliPixels
from hebm.normals import Normal
from hebm_plugins.dvp.dct import dct2, idct2
from hebm_plugins.dvp.log_normal import log_normal
from hebm_plugins.dvp.pseudo_inputs import DCT as DCTInput
from hebm_plugins.dvp.pseudo_inputs import Downsample
from hebm_plugins.pixels.dvp_outputs import SCORING, bernoulli
from hebm_plugins.pixels.logistic_mixture import LogisticMixturePixels
from hebm_plugins.priors.dvp.process import Diffusion
from hebm_plugins.priors.dvp.schedule import SCHEDULES
from hebm_plugins.priors.dvp.unet import UNet

# ---------------------------------------------------------------- pseudo-inputs

CASES = ["g28", "g28s5", "c32", "odd9"]


def dct_case(name, dtype=torch.float64):
    """Vectors of a case, its pseudo-input fitted to the training images, and the images x in [−1, 1]."""
    v = {key.removeprefix(f"{name}."): value for key, value in load("dct").items() if key.startswith(f"{name}.")}
    channels, side, size, _ = map(int, v["meta"])
    made = DCTInput(ImageSpec(channels, side, side), size, -6.0).to(dtype).eval()
    made.fit(ArrayImages(v["train_x"].to(torch.uint8)), None)
    return v, made, v["eval_x"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_the_scale_is_exactly_the_published_one(name, dtype):
    v, made, _ = dct_case(name, dtype)
    assert torch.equal(made.scale.double(), v["scale"][0].clamp(min=1))


@pytest.mark.parametrize("name", CASES)
def test_coefficients_pseudo_inputs_and_context_images_are_the_published_ones(name):
    v, made, x = dct_case(name)
    side = x.shape[-1]
    whole = dct2(0.5 * (x + 1), side)
    close(whole, v["eval_dct_full"], DCT)
    close(idct2(whole, side, side), v["eval_idct"], DCT)
    close(made.coefficients(x) / made.scale, v["u_unclipped"], DCT)
    close(made.mean(x), v["u"], DCT)
    close(made.image(v["u"]), v["ctx_from_u"], DCT)
    image = made.image(v["u_noisy"])
    close(image, v["ctx_from_u_noisy"], DCT)
    pooled = [key for key in v if key.startswith("ctx_noisy_pool")]
    assert pooled
    for key in pooled:
        close(F.avg_pool2d(image, int(key.removeprefix("ctx_noisy_pool"))), v[key], DCT)


@pytest.mark.parametrize("name", CASES)
def test_down_sampling_is_the_published_one(name):
    v, made, x = dct_case(name)
    down = Downsample(ImageSpec(*x.shape[1:]), made.shape[-1], -6.0)
    close(down.mean(x), v["downsample_u"], DCT)
    close(down.image(v["downsample_u"]), v["downsample_ctx"], DCT)


@pytest.mark.parametrize("shape", [(28, 28), (9, 9), (6, 10)])
def test_the_dct_is_scipys(shape):
    x = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = dctn(x.numpy(), axes=(-2, -1), type=2, norm="ortho")
    size = min(shape)
    np.testing.assert_allclose(dct2(x, size).numpy(), theirs[..., :size, :size], atol=1e-12)
    kept = np.zeros_like(theirs)
    kept[..., :4, :4] = theirs[..., :4, :4]
    ours = idct2(torch.from_numpy(theirs[..., :4, :4]), *shape)
    np.testing.assert_allclose(ours.numpy(), idctn(kept, axes=(-2, -1), type=2, norm="ortho"), atol=1e-12)


def test_the_scale_of_mnist_depends_on_which_images_it_is_taken_of():
    v = load("mnist_scale")
    first, every = v["S_first50001"], v["S_all60000"]
    differing = (first[:7, :7] != every[:7, :7]).nonzero().tolist()
    assert differing == [[1, 6], [4, 2]]
    assert first[0, :7].tolist() == [11, 2, 9, 3, 5, 4, 3]
    assert bool((first >= v["max_abs"].floor()).all())
    assert bool((first <= v["max_abs"].ceil()).all())


# ---------------------------------------------------------------- schedules and the diffusion

NAMES = ["mnist", "omniglot", "cifar10", "default"]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("name", NAMES)
def test_schedules_and_their_steps_are_the_published_ones(name, kind):
    prefix = f"{name}.{kind[:3]}."
    v = {key.removeprefix(prefix): value for key, value in load("schedule").items() if key.startswith(prefix)}
    low, high, steps = v["meta"].tolist()
    schedule, t = SCHEDULES[kind](low, high).double(), v["t"]
    for ours, key in ((schedule.gamma, "gamma"), (schedule.alpha, "alpha")):
        close(ours(t), v[key], EXACT)
    close(schedule.sigma(t).square(), v["sigma2"], EXACT)
    close(schedule.continuous_weight(t[1:]), v["w_cont"], EXACT)
    close(schedule.discrete_weight(t[1:], int(steps)), v["w_disc"], EXACT)
    step = schedule.backwards(t[1:], t[:-1])
    for ours, key in zip(step, ("post_coef_z", "post_coef_x", "post_std"), strict=True):
        close(ours, v[key], EXACT)


class Toy(torch.nn.Module):
    """ε̂ = a tanh z + b z + c t."""

    def __init__(self, a, b, c):
        super().__init__()
        self.a, self.b, self.c = a, b, c

    def forward(self, z, t):
        return self.a * z.tanh() + self.b * z + self.c * t.view(-1, 1, 1, 1)


def diffusion_case(name):
    v = {key.removeprefix(f"{name}."): value for key, value in load("diffusion").items() if key.startswith(f"{name}.")}
    low, high, steps, _, _, _, continuous, velocity, *toy = v["meta"].tolist()
    schedule = SCHEDULES["linear"](low, high).double()
    return v, Diffusion(Toy(*toy), schedule, int(steps), bool(velocity), not continuous)


PROCESSES = ["mnist", "cifar10", "disc", "vparam"]


@pytest.mark.parametrize("name", PROCESSES)
def test_the_bound_in_training_is_the_published_one(name):
    v, diffusion = diffusion_case(name)
    t = diffusion.snapped(v["t_uniform"][:, 0])
    close(t, v["t"][:, 0], EXACT)
    close(diffusion.schedule.gamma(t), v["gamma_t"][:, 0], EXACT)
    close(diffusion.weight(t), v["w"][:, 0], EXACT)
    close(diffusion.diffused(v["u"], torch.zeros(len(t), dtype=t.dtype), v["eps0"]), v["z0"], EXACT)
    z = diffusion.diffused(v["u"], t, v["eps"])
    close(z, v["zt"], EXACT)
    predicted = diffusion.predicted(z, t)
    close(predicted, v["eps_hat"], EXACT)
    close((predicted - v["eps"]).square().flatten(1).sum(1), v["mse_sum"], EXACT)
    terms = diffusion.terms(v["u"], v["eps0"], v["t_uniform"][:, 0], v["eps"])
    for ours, key in zip(terms, ("L0", "Lt", "LT"), strict=True):
        close(ours.flatten(1), v[key], EXACT)
    close(terms.log_prob, v["log_prob_train"].sum(1), EXACT)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_sums_over_steps_are_the_published_one_and_the_chains_bound(name):
    v, diffusion = diffusion_case(name)
    published = diffusion.summed(v["u"], v["test.eps0"], v["test.eps_T"], diffusion.weight)
    close(-sum(part.flatten(1) for part in published), v["test.log_prob"], EXACT)
    chain = diffusion.summed(v["u"], v["test.eps0"], v["test.eps_T"], diffusion.chain_weight)
    close(chain.log_prob, v["test.discrete_bound_log_prob"], EXACT)


@pytest.mark.parametrize(("temperature", "key"), [(1.0, "sample.u"), (0.7, "sample.u_temp0.7")])
@pytest.mark.parametrize("name", PROCESSES)
def test_ancestral_draws_are_the_published_ones(name, temperature, key):
    v, diffusion = diffusion_case(name)
    noise = v["sample.noise"]
    drawn = diffusion.drawn(v["sample.init"], lambda k: noise[diffusion.steps - k], temperature)
    close(drawn, v[key], EXACT)


# ---------------------------------------------------------------- distributions and the noise predictor


def test_normals_are_the_published_ones():
    v = load("distributions")
    q, p = (Normal(v[f"n_{k}_mu"], (0.5 * v[f"n_{k}_logvar"]).exp()) for k in "qp")
    one = [Normal(*(part.reshape(-1, 1) for part in normal)) for normal in (q, p)]
    close(one[0].kl(one[1]).view_as(v["n_kl"]), v["n_kl"], EXACT)
    log_q = log_normal(v["n_z"], v["n_q_mu"], v["n_q_logvar"]).flatten(1)
    close(log_q, v["n_q_logprob"], EXACT)
    close(log_q.sum(1), v["n_q_logprob_sum"], EXACT)
    # the published temperature multiplies variances: ours, which multiplies deviations, is its root
    close(q.mean + 0.5**0.5 * q.std * v["n_eps"], v["n_sample_temp0p5"], EXACT)


def test_bernoulli_pixels_of_clamped_probabilities_are_the_published_ones():
    v = load("distributions")
    found = bernoulli(v["b_p"].logit())
    assert isinstance(found, BernoulliPixels)
    close(found.log_prob(2 * v["b_x"] - 1), v["b_logprob"], EXACT)


def test_the_mixture_of_logistics_is_the_published_one():
    v = load("distributions")
    mixture = LogisticMixturePixels(v["m_head"], scoring=SCORING)
    close(mixture.logits, v["m_logit_probs"], EXACT)
    close(mixture.means, v["m_means"], EXACT)
    close(mixture.log_scales, v["m_logscale"], EXACT)
    close(mixture.coefficients, v["m_coeffs"], EXACT)
    close(v["m_x_uint8"] / 127.5 - 1, v["m_x"], EXACT)
    close(mixture.log_prob(v["m_x"]), v["m_logprob"], EXACT)
    close(mixture.from_uniforms(v["m_sample_u_mix"], v["m_sample_u_logistic"]), v["m_sample"], EXACT)


def test_the_noise_predictor_is_the_published_one():
    v = load("unet")
    net = UNet(1, 16, 1).double()
    net.load_state_dict(unet_state(weights_of(v)))
    close(net.time.sinusoid(v["t"]), v["t_sinusoid"], NETWORK)
    close(net.time(v["t"]), v["t_emb"], NETWORK)
    close(net(v["x"], v["t"]), v["out"], NETWORK)
