"""Densities: value and gradient as their formulas say, no graph left, parameters as they were, rows independent."""

import math

import pytest
import torch

from hebm import gradients
from hebm.densities import ConditionalPrior, Conditioned, Factor, GeneratorPosterior, LatentSpace, TiltedPrior, frozen
from hebm.errors import PluginError
from hebm.interfaces import EnergyFn
from hebm.latents import LatentLayout
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import SMALL_IMAGES, contexts, image_batch, points, seeded
from hebm.tilts import Tilt, shown
from hebm_plugins.energies.mlp import MLP

ROWS = 5


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone).double()


@pytest.fixture
def energy(backbone):
    return seeded(lambda: MLP(width=8, zero_init=False).build(backbone.layout)).double()


@pytest.fixture
def tilt(energy):
    return Tilt(lambda latents: energy(latents).squeeze(2), (energy,))


@pytest.fixture
def u(backbone):
    return points(ROWS, backbone.layout.dim, torch.float64)


def densities(backbone, tilt):
    target = image_batch(SMALL_IMAGES, ROWS, torch.float64).target
    return {
        "tilted": TiltedPrior(backbone, tilt),
        "official": TiltedPrior(backbone, tilt, jacobian=True),
        "posterior": GeneratorPosterior(backbone, target, tilt),
        "untilted posterior": GeneratorPosterior(backbone, target),
        "latent space": LatentSpace(backbone, tilt),
        "latent space posterior": LatentSpace(backbone, tilt, target),
        "conditional": conditional(backbone, tilt),
    }


def conditional(backbone, tilt):
    """Rows of two levels: with and without the localising term."""
    above = points(ROWS, backbone.layout.dim, torch.float64, "above")
    column = torch.tensor([0.0, 1, 0, 1, 1], dtype=torch.float64).unsqueeze(1)
    alpha = 0.6 + 0.2 * column
    return ConditionalPrior(backbone, tilt, above, alpha, (1 - alpha**2).sqrt(), column, 0.5 + column, 0.1 + column)


NAMES = ("tilted", "official", "posterior", "untilted posterior", "latent space", "latent space posterior")
NAMES = (*NAMES, "conditional")


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_that_of_the_value(backbone, tilt, u, name):
    density = densities(backbone, tilt)[name]
    grad = density.value_and_grad(u).grad
    for i in range(u.shape[1]):
        step = torch.zeros_like(u)
        step[:, i] = 1e-6
        slope = (density.value_and_grad(u + step).value - density.value_and_grad(u - step).value) / 2e-6
        assert torch.allclose(grad[:, i], slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_results_hold_no_graph_and_u_is_left_alone(backbone, tilt, u, name):
    before = u.clone()
    value, grad = densities(backbone, tilt)[name].value_and_grad(u)
    assert value.shape == (ROWS,)
    assert grad.shape == u.shape
    assert not value.requires_grad
    assert not grad.requires_grad
    assert not u.requires_grad
    assert torch.equal(u, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_row_changes_no_bit_of_the_others(backbone, tilt, u, name):
    density = densities(backbone, tilt)[name]
    spoiled = u.clone()
    spoiled[1] = math.nan
    clean, with_nan = density.value_and_grad(u), density.value_and_grad(spoiled)
    keep = [0, 2, 3, 4]
    assert torch.equal(clean.value[keep], with_nan.value[keep])
    assert torch.equal(clean.grad[keep], with_nan.grad[keep])
    assert bool(with_nan.value[1].isnan())


def test_formulas(backbone, tilt, u):
    latents = backbone.latents(u)
    f, quadratic = tilt.f(latents).sum(1), -0.5 * u.square().sum(1)
    target = image_batch(SMALL_IMAGES, ROWS, torch.float64).target
    log_likelihood = backbone.likelihood(latents).log_prob(target)
    made = densities(backbone, tilt)
    expected = {
        "tilted": f + quadratic,
        "official": f + quadratic - latents.log_sigma,
        "posterior": f + quadratic + log_likelihood,
        "untilted posterior": quadratic + log_likelihood,
    }
    for name, value in expected.items():
        assert torch.allclose(made[name].value_and_grad(u).value, value, atol=1e-12), name
    at = made["conditional"]
    m, residual = torch.tensor([0.0, 1, 0, 1, 1], dtype=torch.float64), at.alpha * u - at.above
    localising = m * residual.square().sum(1) / (2 * (1 - at.alpha.squeeze(1) ** 2))
    assert torch.allclose(at.value_and_grad(u).value, f / (0.5 + m) + quadratic - localising, atol=1e-12)
    z = latents.flat_z
    assert torch.allclose(made["latent space"].value_and_grad(z).value, f + latents.root_log_prob, atol=1e-9)
    both = f + latents.root_log_prob + log_likelihood
    assert torch.allclose(made["latent space posterior"].value_and_grad(z).value, both, atol=1e-9)


def test_the_functional_form_for_compiled_chains_is_equal(backbone, tilt, u):
    density = TiltedPrior(backbone, tilt)
    remainder, grad = gradients._functional_gradient(density.remainder, u)
    with torch.no_grad():
        assert torch.allclose(remainder, density.remainder(u), atol=1e-12)
    assert torch.allclose(grad + density.gaussian(u).grad, density.value_and_grad(u).grad, atol=1e-12)


def test_densities_work_where_gradients_are_off(backbone, tilt, u):
    density = TiltedPrior(backbone, tilt)
    with torch.no_grad():
        assert torch.equal(density.value_and_grad(u).grad, density.value_and_grad(u).grad)


def test_without_a_tilt_the_conditional_is_the_gaussian_of_the_reverse_step(backbone):
    density = conditional(backbone, Tilt(lambda latents: 0 * latents.u))
    rows = [1, 3, 4]
    best = (density.alpha * density.above)[rows]
    whole = density.above.clone()
    whole[rows] = best
    value, grad = density.value_and_grad(whole)
    assert grad[rows].abs().max() < 1e-12
    sigma = (1 - density.alpha[rows] ** 2).sqrt()
    shifted = whole.clone()
    shifted[rows] += sigma
    drop = (value - density.value_and_grad(shifted).value)[rows]
    assert torch.allclose(drop, torch.full_like(drop, 0.5 * backbone.layout.dim), atol=1e-12)


def test_fixing_coordinates_leaves_the_density_of_the_others(backbone, tilt, u):
    fixed = backbone.layout.fix(u + 1, {0})
    for name, density in densities(backbone, tilt).items():
        given = Conditioned(density, fixed)
        whole, part = density.value_and_grad(fixed.apply(u)), given.value_and_grad(fixed.free(u))
        assert torch.allclose(part.value, whole.value, atol=1e-12), name
        assert torch.allclose(part.grad, fixed.free(whole.grad), atol=1e-12), name
        assert given.modules == density.modules


@pytest.mark.parametrize("free", [False, True])
def test_the_gaussian_term_is_that_of_the_factor_where_there_is_one(backbone, tilt, u, free):
    fixed = backbone.layout.fix(u + 1, {0})
    known = []
    for name, density in densities(backbone, tilt).items():
        at = Conditioned(density, fixed) if free else density
        point, factor = (fixed.free(u) if free else u), at.factor()
        if factor is not None:
            known.append(name)
            expected = -(point - factor.mean) / torch.as_tensor(factor.std).square()
            assert torch.allclose(at.gaussian(point).grad, expected, atol=1e-12), name
    assert known == [name for name in NAMES if not name.startswith("latent space")]
    assert TiltedPrior(backbone, tilt).factor() == Factor(0.0, 1.0)


def test_the_context_is_given():
    layout = LatentLayout(((2,), (3,)), context=(2,))
    backbone = seeded(lambda: ReferenceBackbone(layout)).double()
    u, context = points(ROWS, layout.dim, torch.float64), contexts(layout, ROWS, torch.float64)
    density = TiltedPrior(backbone, Tilt(lambda latents: latents.flat_z), context)
    expected = backbone.latents(u, context).flat_z.sum(1) - 0.5 * u.square().sum(1)
    assert torch.allclose(density.value_and_grad(u).value, expected)


def test_a_density_freezes_the_modules_that_it_uses(backbone, energy):
    density = TiltedPrior(backbone, Tilt(energy, (energy,)))
    assert density.modules == (backbone, energy)
    with frozen(*density.modules):
        assert not any(p.requires_grad for module in density.modules for p in module.parameters())
    assert all(p.requires_grad for module in density.modules for p in module.parameters())


def test_frozen_leaves_every_parameter_as_it_was_even_after_an_error(backbone):
    still = next(backbone.parameters())
    still.requires_grad_(False)

    def fail():
        with frozen(backbone):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not still.requires_grad
    assert sum(p.requires_grad for p in backbone.parameters()) == len(list(backbone.parameters())) - 1


class SeesImage(EnergyFn):
    """f = Σ x, of the decoded mean."""

    sees = ("image",)

    def forward(self, latents, t=None):
        return latents.image.flatten(1).sum(1).view(-1, 1, 1)


def test_an_energy_may_see_the_decoded_image_and_its_gradient_goes_through_the_decoder(backbone, u):
    net = SeesImage()
    tilt = Tilt(lambda latents: net(latents).squeeze(2), (net,))
    assert tilt.sees == ("image",)
    value, grad = TiltedPrior(backbone, tilt).value_and_grad(u)
    leaf = u.clone().requires_grad_()
    mean = backbone.likelihood(backbone.latents(leaf)).mean.flatten(1).sum(1)
    assert torch.allclose(value, (mean - 0.5 * u.square().sum(1)).detach(), atol=1e-12)
    (slope,) = torch.autograd.grad(mean.sum(), leaf)
    assert torch.allclose(grad, slope - u, atol=1e-12)


class Silent(ReferenceBackbone):
    """A backbone that does not show its decoder's features."""

    decoder_features = None


def test_what_an_energy_sees_has_a_name_that_is_known(backbone, u):
    class SeesMore(SeesImage):
        sees = ("image", "pixels")

    with pytest.raises(
        PluginError, match="sees 'pixels', which is not known; energies can see 'latents', 'image', 'features'"
    ):
        Tilt(SeesMore(), (SeesMore(),))
    silent = Silent()
    with pytest.raises(PluginError, match="sees decoder features, which Silent does not show"):
        shown(silent, silent.latents(torch.zeros(2, silent.layout.dim)), ("features",))
    with pytest.raises(PluginError, match="these latents do not show 'features'"):
        _ = backbone.latents(u).features


def test_the_image_is_decoded_once_and_only_for_who_sees_it(backbone, u):
    latents = backbone.latents(u)
    assert shown(backbone, latents, ()) is latents
    image = shown(backbone, latents, ("image",))
    assert image.shown.keys() == {"image"}
    assert shown(backbone, image, ("image",)) is image
    assert torch.equal(image.detach().image, image.image.detach())
