"""Gradients by the formulas of components equal those of autograd, and chains use them."""

import pytest
import torch

from hebm.densities import Conditioned, TiltedPrior
from hebm.gradients import Differentiates, PullsBack, own_gradients, pullback_of, value_and_grad
from hebm.interfaces import ImageSpec
from hebm.noise import Noise
from hebm.sampling import run
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, points, seeded
from hebm.tilts import Tilt
from hebm_plugins.energies.mlp import ACTIVATIONS, MLP, MLPConcat, mlp
from hebm_plugins.energies.mlp_gradient import with_pullback
from hebm_plugins.priors.joint import Joint
from hebm_plugins.samplers.ula import ULA
from hebm_plugins.two_layer.recipe import TwoLayer

IMAGES = ImageSpec(1, 8, 8)
BACKBONES = {
    "one layer": lambda: TwoLayer(z_dims=(7,), widths=(4,), inference="none").build(IMAGES),
    "three layers": lambda: TwoLayer(z_dims=(2, 3, 4), widths=(4,), inference="none").build(IMAGES),
    "reference": ReferenceBackbone,
}
ENERGIES = [
    MLP(width=8),
    MLP(width=8, activation="leaky-relu"),
    MLP(width=8, coordinate="u"),
    MLPConcat(width=8),
    MLPConcat(width=8, coordinate="u"),
]


def tilted(backbone, recipe, dtype=torch.float64):
    """A backbone and the density of a joint prior, with weights that are not 0."""
    model = perturbed(seeded(BACKBONES[backbone]), 0.3).to(dtype)
    prior = perturbed(seeded(lambda: Joint(energy=recipe).build(model)), 0.3).to(dtype)
    return model, prior.density(model)


@pytest.mark.parametrize("recipe", ENERGIES, ids=repr)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_own_gradients_through_t_are_those_of_autograd(backbone, recipe):
    model, density = tilted(backbone, recipe)
    u = points(6, model.layout.dim, torch.float64)
    value, grad = density.remainder_and_grad(u)
    wanted = value_and_grad(density.remainder, u)
    assert density.gradients is not None
    assert wanted[1].any()
    assert not value.requires_grad
    assert not grad.requires_grad
    torch.testing.assert_close((value, grad), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("bound", [0.0, 3.0])
def test_a_chain_of_perceptrons_on_a_two_layer_model_is_that_of_autograd_bit_for_bit(bound):
    recipe = TwoLayer(z_dims=(5, 9), widths=(4,), inference="none", log_sigma_bound=bound)
    model = perturbed(seeded(lambda: recipe.build(IMAGES)))
    prior = perturbed(seeded(lambda: Joint(energy=MLP(width=8)).build(model)))
    own, by_autograd = prior.density(model), TiltedPrior(model, Tilt(prior.tilt, (prior.energy,)))
    ends = [run(ULA(), density, points(70, 14), Noise(0, "chain"), 5).u for density in (own, by_autograd)]
    assert by_autograd.gradients is None
    assert torch.equal(*ends)


def test_a_chain_on_own_gradients_never_calls_forward(monkeypatch):
    _, density = tilted("reference", MLP(width=8))
    monkeypatch.setattr(type(density.tilt.modules[0]), "forward", None)
    run(ULA(), density, points(4, 7, torch.float64), Noise(0, "chain", dtype=torch.float64), 2)


def test_given_coordinates_and_own_gradients_go_together():
    model, density = tilted("three layers", MLP(width=8))
    u = points(6, 9, torch.float64)
    given = Conditioned(density, model.layout.fix(u, [1]))
    free = given.fixed.free(u)
    torch.testing.assert_close(
        tuple(given.remainder_and_grad(free)), value_and_grad(given.remainder, free), atol=1e-12, rtol=0
    )


def test_a_nan_in_one_row_changes_no_other():
    _, density = tilted("three layers", MLP(width=8))
    u = points(6, 9, torch.float64)
    spoiled = u.clone()
    spoiled[2, 0] = torch.nan
    clean, with_nan = density.remainder_and_grad(u), density.remainder_and_grad(spoiled)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(clean.grad[others], with_nan.grad[others])
    assert with_nan.grad[2].isnan().any()


def test_what_depends_on_more_than_u_and_z_is_left_to_autograd():
    layout = ReferenceBackbone().layout
    energy = MLP(width=8, coordinate="z-given-above").build(layout)
    assert not isinstance(energy, Differentiates)
    assert own_gradients(energy) is None
    model = seeded(ReferenceBackbone)
    tilt = seeded(lambda: Joint(energy=MLP(width=8)).build(model)).density(model).tilt
    assert TiltedPrior(model, tilt).gradients is not None
    assert TiltedPrior(model, tilt, jacobian=True).gradients is None  # Σ log σ depends on u, too


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_pullback_of_a_perceptron_is_that_of_autograd_bit_for_bit(activation):
    net = seeded(lambda: mlp((5, 8, 8, 3), activation))
    x, grad = points(20, 5), points(20, 3, name="grad")
    leaf = x.clone().requires_grad_()
    y = net(leaf)
    (wanted,) = torch.autograd.grad(y, leaf, grad)
    with torch.no_grad():
        again, pullback = with_pullback(net, x)
        assert torch.equal(again, y)
        assert torch.equal(pullback(grad), wanted)


def test_the_pullback_of_a_backbone_without_one_is_by_autograd():
    model = seeded(ReferenceBackbone)
    assert not isinstance(model, PullsBack)
    u, grads = points(5, 7), model.layout.split(points(5, 7, name="grads"))
    leaf = u.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(model.latents(leaf).z, leaf, grads)
    latents, pullback = pullback_of(model)(u, None)
    assert torch.equal(pullback(grads), wanted)
    assert torch.equal(latents.flat_z, model.latents(u).flat_z)
