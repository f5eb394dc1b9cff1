"""The score prior: closed-form targets, the bound they learn by, and ancestral draws."""

import math

import attrs
import numpy as np
import pytest
import torch

from hebm.errors import ConfigError
from hebm.fixed import Fixed
from hebm.interfaces import HeldOutLoss, Progress, Request, seen_by
from hebm.latents import LatentLayout, Posterior
from hebm.noise import Noise
from hebm.normals import Normal
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, points, seeded
from hebm_plugins.priors.score.conv_denoiser import ConvDenoiser
from hebm_plugins.priors.score.mlp_denoiser import MLPDenoiser
from hebm_plugins.priors.score.prior import HELD_OUT_LEVELS
from hebm_plugins.priors.score.process import Level, gain, residual_of_normal, residual_of_point, stepped
from hebm_plugins.priors.score.recipe import Score

SMALL = Score(width=16, depth=1, dropout=0.0, steps=5)
ROWS, STEP = 6, Progress(0, 10)
MEAN, STD = 0.7, 0.6


def noise(*path, **options):
    return Noise(0, *path, dtype=torch.float64, **options)


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone).double().requires_grad_(False)


def made(backbone, size=0.0, **fields):
    """A prior, at its start or moved away from it."""
    return perturbed(seeded(lambda: attrs.evolve(SMALL, **fields).build(backbone)), size).double().eval()


# ---------------------------------------------------------------- formulas


@pytest.mark.parametrize("time", [0.05, 0.5, 0.98])
def test_the_target_is_the_posterior_mean_of_u_0_by_numerical_integration(time):
    level = Level.of(torch.tensor([time], dtype=torch.float64))
    grid = torch.linspace(-6, 6, 20001, dtype=torch.float64)
    for noised in (-1.3, 0.2, 2.0):
        log = -0.5 * ((grid - MEAN) / STD) ** 2 - 0.5 * ((noised - level.alpha * grid) / level.sigma) ** 2
        mean = (log.flatten().softmax(0) * grid).sum()
        at = torch.full((1, 1), noised, dtype=torch.float64)
        q = Normal(torch.full_like(at, MEAN), torch.full_like(at, STD))
        residual = residual_of_normal(at, q, level)
        torch.testing.assert_close(level.alpha * at + level.sigma**2 * residual, mean.view(1, 1), rtol=1e-6, atol=1e-9)


def test_a_known_u_0_is_a_normal_without_deviation():
    u, level = points(ROWS, 3, torch.float64), Level.of(torch.linspace(0.1, 1, ROWS, dtype=torch.float64))
    noised = level.noised(u, points(ROWS, 3, torch.float64, "eps"))
    q = Normal(u, torch.zeros_like(u))
    torch.testing.assert_close(residual_of_point(noised, u, level), residual_of_normal(noised, q, level))


def test_the_best_net_gains_the_whole_divergence_from_the_normal_in_nats():
    """For q = N(m, s²) the bound is exact: the gain of n* is KL(q ‖ N(0, 1)) = (s² + m² − 1)/2 − log s."""
    times = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    xi, weight = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(12))
    level = Level.of(times)
    noised = level.alpha * MEAN + (level.sigma**2 + level.alpha**2 * STD**2).sqrt() * xi
    q = Normal(torch.full_like(noised, MEAN), torch.full_like(noised, STD))
    best = residual_of_normal(noised, q, level)
    each = torch.cat([gain(best[:, [j]], best[:, [j]], level) for j in range(len(xi))], dim=1)
    found = (each * weight / weight.sum()).sum(1).mean()
    wanted = 0.5 * (STD**2 + MEAN**2 - 1) - math.log(STD)
    assert float(found) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_without_a_residual_every_step_leaves_the_normal_exactly_as_it_is(steps):
    """Coefficients of the independent normals that a draw is made of have squares that sum to 1."""
    coefficients = torch.eye(steps + 1, dtype=torch.float64)
    u = coefficients[0]
    for k in range(steps, 0, -1):
        u = stepped(u, torch.zeros_like(u), Level.of_step(k, steps), Level.of_step(k - 1, steps), coefficients[k])
    assert float(u.square().sum()) == pytest.approx(1, abs=1e-12)


# ---------------------------------------------------------------- drawing


def test_an_untrained_prior_draws_the_normal_by_the_steps_of_its_noise(backbone):
    prior, layout = made(backbone), backbone.layout
    u = prior.sample(backbone, ROWS, noise("draw"))
    start = prior.sample(backbone, ROWS, noise("draw"), Request(after="root")).u
    for i, size in enumerate(layout.sizes):
        wanted = start[:, layout.place(i)]
        for k in range(SMALL.steps, 0, -1):
            a = math.cos(math.pi * k / 10) / math.cos(math.pi * (k - 1) / 10)
            xi = noise("draw", "layer", i, "step", k).normal(ROWS, size)
            wanted = a * wanted + math.sqrt(1 - a * a) * xi
        torch.testing.assert_close(u.u[:, layout.place(i)], wanted)


def test_each_layer_is_drawn_below_the_drawn_layers_above(backbone):
    prior = made(backbone, 0.3)
    first, second = prior.transitions(backbone)
    upper = prior.sample(backbone, ROWS, noise("draw"), Request(after="layer 0"))
    whole = prior.sample(backbone, ROWS, noise("draw"))
    top = backbone.layout.place(0)
    assert torch.equal(whole.u[:, top], upper.u[:, top])
    moved = upper.moved(upper.u + torch.cat([torch.ones(ROWS, 3), torch.zeros(ROWS, 4)], dim=1))
    other = second.move(moved, noise("draw"), Request())
    assert not torch.allclose(other.u[:, 3:], whole.u[:, 3:])
    assert torch.equal(second.move(upper, noise("draw"), Request()).u, whole.u)
    assert (first.steps, second.name) == (0, "layer 1")


def test_a_request_sets_the_number_of_steps(backbone):
    prior, finer = made(backbone, 0.3), made(backbone, 0.3, steps=9)
    asked = prior.sample(backbone, ROWS, noise("draw"), Request(steps=9)).u
    assert torch.equal(asked, finer.sample(backbone, ROWS, noise("draw")).u)
    none = prior.sample(backbone, ROWS, noise("draw"), Request(steps=0)).u
    assert torch.equal(none, prior.sample(backbone, ROWS, noise("draw"), Request(after="root")).u)


def test_fixed_coordinates_come_back_as_given_and_guide_the_others_of_their_layer(backbone):
    prior, layout = made(backbone, 0.3), backbone.layout
    mask = torch.tensor([True, False, False, False, True, True, False])
    low, high = (Fixed(torch.full((ROWS, layout.dim), value, dtype=torch.float64), mask) for value in (-2.0, 2.0))
    a, b = (prior.sample(backbone, ROWS, noise("draw"), Request(fixed=fixed)).u for fixed in (low, high))
    assert torch.equal(a[:, mask], low.u[:, mask])
    assert torch.equal(b[:, mask], high.u[:, mask])
    assert not torch.allclose(a[:, ~mask], b[:, ~mask])


# ---------------------------------------------------------------- learning

NOISE, SPREAD, SLOPE = 0.5, 0.6, 0.8
"""Deviations of q, and of its mean around SLOPE · z above."""


def inferred(backbone, prior, rows, name, known):
    """Draws of x's posterior in a linear-Gaussian hierarchy: u_1 = 1 + …, u_2 = SLOPE · u_1 + …"""
    xi = points(rows, 4, name=name)
    top = 1 + SPREAD * xi[:, :1]
    u_top = top + NOISE * xi[:, 1:2]
    low = SLOPE * u_top + SPREAD * xi[:, 2:3]
    u = torch.cat([u_top, low + NOISE * xi[:, 3:]], dim=1)
    q_u = tuple(Normal(mean, torch.full_like(mean, NOISE)) for mean in (top, low)) if known else None
    return Posterior(seen_by(prior.nets, backbone, u).detach(), q_u=q_u)


@pytest.mark.parametrize("known", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_short_training_recovers_the_aggregate_posterior_of_each_layer_given_those_above(known):
    backbone = seeded(lambda: ReferenceBackbone(LatentLayout(((1,), (1,))))).requires_grad_(False)
    for layer in backbone.layers:
        layer.weight.zero_()
    prior = seeded(lambda: Score(width=32, dropout=0.0, steps=60).build(backbone))
    prior.stages()[0].start(backbone, Noise(0, "start"), None)
    steps = 400
    optimizer = torch.optim.Adam(prior.nets.parameters(), 1e-2)
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for step in range(steps):
        posterior = inferred(backbone, prior, 256, f"step {step}", known)
        prior.objective(backbone, posterior, Noise(step), STEP).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        rates.step()
    u = prior.sample(backbone, 20000, Noise(0, "draw")).u.double()
    deviation = math.hypot(SPREAD, NOISE)
    rest = u[:, 1] - SLOPE * u[:, 0]
    assert float(u[:, 0].mean()) == pytest.approx(1, abs=0.08)
    assert float(u[:, 0].std()) == pytest.approx(deviation, rel=0.08)
    assert float(rest.mean()) == pytest.approx(0, abs=0.08)
    assert float(rest.std()) == pytest.approx(deviation, rel=0.08)
    assert float(torch.corrcoef(torch.stack([rest, u[:, 0]]))[0, 1]) == pytest.approx(0, abs=0.1)


def test_known_conditionals_have_the_same_gradient_on_average_and_less_variance():
    backbone = seeded(lambda: ReferenceBackbone(LatentLayout(((1,), (1,))))).requires_grad_(False)
    prior = perturbed(seeded(lambda: attrs.evolve(SMALL).build(backbone)), 0.1)

    def gradients(known):
        found = []
        for i in range(40):
            posterior = inferred(backbone, prior, 256, f"batch {i}", known)
            loss = prior.objective(backbone, posterior, Noise(i), STEP).total
            found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, prior.nets.parameters())]))
        return torch.stack(found)

    with_q, without = gradients(True), gradients(False)
    difference = with_q - without
    error = difference.std(0) / len(difference) ** 0.5
    assert float((difference.mean(0).abs() / (error + 1e-12)).max()) < 5
    assert float(with_q.var(0).sum()) < float(without.var(0).sum())


def test_features_are_standardised_by_draws_of_the_root(backbone):
    prior = made(backbone)
    prior.stages()[0].start(backbone, noise("start"), None)
    draw = prior.root.sample(backbone, 512, noise("start"))
    feature = backbone.decoder_features(backbone.latents(draw.u))[1]
    layer = prior.nets.layers[1]
    torch.testing.assert_close(layer.mean, feature.mean(0))
    torch.testing.assert_close(layer.std, feature.std(0).clamp(min=1e-3))  # the first, 1, does not vary
    assert all(name in prior.state_dict() for name in ("nets.layers.1.mean", "nets.layers.1.std"))


def test_the_held_out_loss_is_the_objective_without_dropout_at_the_same_levels_each_time(backbone):
    prior = made(backbone, 0.3, dropout=0.5)
    posterior = inferred_like(backbone, prior)
    batch = prior.stages()[0].held_out(backbone, posterior, noise("held out"))
    plain = made(backbone, 0.3, dropout=0.0)
    each = [
        plain.objective(backbone, posterior, noise("held out", "level", k), STEP).total.detach()
        for k in range(HELD_OUT_LEVELS)
    ]
    with torch.no_grad():
        found = HeldOutLoss.metrics([batch])
        assert found == HeldOutLoss.metrics([batch])
    assert found["loss"] == pytest.approx(float(torch.stack(each).mean()))
    assert found["loss"] == pytest.approx(-found["gain_layer_0"] - found["gain_layer_1"])
    with torch.no_grad():
        for parameter in prior.nets.parameters():
            parameter.mul_(0)
    assert HeldOutLoss.metrics([batch])["loss"] == 0


def inferred_like(backbone, prior):
    return Posterior(seen_by(prior.nets, backbone, points(ROWS, backbone.layout.dim, torch.float64)))


# ---------------------------------------------------------------- nets

MAPS = LatentLayout(((5,), (2, 7, 7), (2, 16, 9)), features=((1,), (5,), (3, 16, 9)))
"""A flat layer, a map with a flat feature, and a map with one of its own sides; odd sides and several scales."""


def nets_of(layout=MAPS, **fields):
    backbone = ReferenceBackbone()
    backbone.layout = layout
    return seeded(lambda: attrs.evolve(SMALL, channels=4, blocks=1, **fields).build(backbone)).nets


def test_maps_have_u_nets_and_flat_layers_perceptrons_unless_all_shall_be_perceptrons():
    assert [type(net) for net in nets_of().layers] == [MLPDenoiser, ConvDenoiser, ConvDenoiser]
    assert {type(net) for net in nets_of(net="mlp").layers} == {MLPDenoiser}


@pytest.mark.parametrize("net", ["conv", "mlp"])
def test_a_net_starts_at_0_and_then_sees_u_t_the_feature_and_the_time(net):
    for i, layer in enumerate(nets_of(net=net).layers):
        size, feature = MAPS.sizes[i], MAPS.features[i]
        u, t = points(ROWS, size), torch.linspace(0.1, 0.9, ROWS)
        v = points(ROWS, math.prod(feature)).view(ROWS, *feature)
        assert torch.equal(layer(u, layer.encoded(v), t), torch.zeros(ROWS, size))
        moved = perturbed(layer, 0.1)
        n = moved(u, moved.encoded(v), t)
        for other in (
            moved(-u, moved.encoded(v), t),
            moved(u, moved.encoded(-v), t),
            moved(u, moved.encoded(v), 1 - t),
        ):
            assert other.shape == u.shape
            assert not torch.allclose(other, n)
        one = moved(u, moved.encoded(v), t[:1])
        torch.testing.assert_close(one[0], n[0], rtol=1e-4, atol=1e-6)


def test_every_position_of_the_smallest_map_reaches_every_output():
    net = perturbed(nets_of().layers[2], 0.3)
    u = points(1, MAPS.sizes[2]).requires_grad_()
    h = net.encoded(points(1, 3 * 16 * 9).view(1, 3, 16, 9))
    (grad,) = torch.autograd.grad(net(u, h, torch.full((1,), 0.5))[0, 0], u)
    corner = grad.view(2, 16, 9)[:, -1, -1]
    assert bool((corner != 0).all())


def test_a_u_net_has_no_weight_for_a_single_position_but_of_its_learned_map():
    small, large = (
        nets_of(LatentLayout(((2, side, side),), features=((3, side, side),))).layers[0] for side in (8, 8 * 2)
    )
    count = lambda net: sum(p.numel() for name, p in net.named_parameters() if "position" not in name)  # noqa: E731
    scale = count(large) - count(small)
    assert scale < count(small)  # one more scale, not four times the weights
    assert small.feature.position.shape == (4, 8, 8)


def test_a_backbone_without_features_is_refused():
    backbone = ReferenceBackbone()
    backbone.layout = attrs.evolve(backbone.layout, features=())
    with pytest.raises(ConfigError, match="this backbone does not show features; use backbone"):
        SMALL.build(backbone)
