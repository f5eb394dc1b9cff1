"""Time-aware energies layer by layer, and their folded form for a chain."""

import pytest
import torch

from hebm.latents import LatentLayout
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, points, seeded
from hebm_plugins.energies.conv_time import ConvTime
from hebm_plugins.energies.mlp_time import MLPTime

# equal layers that are not neighbours: together they leave the order
LAYOUT = LatentLayout(((2, 4, 4), (3, 8, 8), (2, 4, 4), (3, 8, 8), (2, 4, 8)))
RECIPES = {
    "residual": ConvTime(channels=4),
    "residual, raw": ConvTime(channels=4, spectral_norm=False),
    "plain": ConvTime(net="plain", channels=4),
    "mlp": MLPTime(width=5, depth=3, zero_init=False),
    "residual, given above": ConvTime(channels=4, coordinate="z-given-above"),
    "mlp, given above": MLPTime(width=5, zero_init=False, coordinate="z-given-above"),
    "mlp, normalised": MLPTime(width=5, zero_init=False, spectral_norm=True, activation="leaky-relu"),
}
LEVELS = {"none": None, "one": torch.tensor([2, 2, 2, 2]), "each": torch.tensor([0, 2, 1, 5])}


def latents():
    return seeded(lambda: ReferenceBackbone(LAYOUT)).double().latents(points(4, LAYOUT.dim, torch.float64))


def built(recipe, logits=2):
    energy = seeded(lambda: recipe.build(LAYOUT, logits)).double()
    return perturbed(energy).eval()


def gradients(energy, t):
    at = latents().detach()
    z = tuple(part.requires_grad_() for part in at.z)
    return torch.autograd.grad(energy(at, t).square().sum(), z)


@pytest.fixture(params=RECIPES)
def energy(request):
    return built(RECIPES[request.param])


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("t", LEVELS.values(), ids=LEVELS)
def test_the_folded_form_has_the_same_values_and_gradients(energy, t, together):
    energy.together = together
    folded = energy.folded(t)
    assert len(folded.nets) == (3 if together else 5)
    torch.testing.assert_close(folded(latents(), t), energy(latents(), t), rtol=1e-9, atol=1e-11)
    for a, b in zip(gradients(folded, t), gradients(energy, t), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_the_level_changes_every_layer(energy):
    f = [energy(latents(), torch.full((4,), t)) for t in range(3)]
    assert ((f[0] - f[1]).abs() > 1e-9).any(0).any(1).all()
    assert ((f[1] - f[2]).abs() > 1e-9).any(0).any(1).all()


def test_no_level_is_level_zero(energy):
    torch.testing.assert_close(energy(latents()), energy(latents(), torch.zeros(4, dtype=torch.long)))


def test_rows_at_different_levels_are_what_each_is_alone(energy):
    whole = energy(latents(), LEVELS["each"])
    for i, t in enumerate(LEVELS["each"]):
        torch.testing.assert_close(whole[i], energy(latents(), t.expand(4))[i])


def test_folding_holds_constants_that_later_changes_leave_alone(energy):
    folded = energy.folded(LEVELS["each"])
    assert not any(p.requires_grad for p in folded.parameters())
    before = folded(latents())
    perturbed(energy, 1.0)
    assert torch.equal(folded(latents()), before)


@pytest.mark.parametrize("name", ["residual", "plain", "mlp, normalised"])
def test_folding_in_training_advances_each_spectral_norm_once(name):
    folded_once, forward_once = built(RECIPES[name]).train(), built(RECIPES[name]).train()
    folded = folded_once.folded(LEVELS["each"])
    forward_once(latents(), LEVELS["each"])
    states = [{k: v for k, v in e.state_dict().items() if ".normal." in k} for e in (folded_once, forward_once)]
    start = built(RECIPES[name]).state_dict()
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-12, atol=1e-12)
    assert any(not torch.equal(value, start[key]) for key, value in states[0].items())
    f = folded(latents())
    torch.testing.assert_close(f, folded_once.eval()(latents(), LEVELS["each"]), rtol=1e-9, atol=1e-11)
    assert torch.equal(folded.train()(latents()), f)


@pytest.mark.parametrize("recipe", [ConvTime, MLPTime])
def test_the_coordinate_decides_what_is_seen(recipe):
    fields = {"zero_init": False} if recipe is MLPTime else {"channels": 4}
    in_u, in_z = (seeded(lambda c=c: recipe(coordinate=c, **fields).build(LAYOUT)).double().eval() for c in "uz")
    at = latents()
    same = type(at)(at.u, LAYOUT.split(at.u), at.sigma)
    assert torch.equal(in_u(at), in_z(same))
    assert not torch.equal(in_u(at), in_z(at))
    torch.testing.assert_close(in_u.folded()(at), in_u(at))
