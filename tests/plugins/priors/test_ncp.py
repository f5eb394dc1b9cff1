"""Noise-contrastive priors: negatives given the posterior's upper layers, draws layer by layer."""

import math

import attrs
import pytest
import torch
from gaussian_ratios import Walk
from torch import nn

from hebm.contrasts import bce
from hebm.errors import ConfigError
from hebm.fixed import Fixed
from hebm.gaussian import GaussianPrior
from hebm.interfaces import EnergyFn, Progress, Request
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.particles import select
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import PoisonedNoise, perturbed, points, seeded
from hebm_plugins.energies.mlp import MLP, MLPConcat
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.ncp.prior import LayerDrawing, NCPPrior, redrawn
from hebm_plugins.priors.ncp.recipe import NCP
from hebm_plugins.samplers.ula import ULA

GIVEN_ABOVE = MLP(width=8, zero_init=False, coordinate="z-given-above")
SMALL = NCP(energy=GIVEN_ABOVE, proposals=150, sampler=ULA(steps=4, step_size=0.2))
ROWS, STEP = 6, Progress(0, 10)


def noise(*path, **options):
    return Noise(0, *path, dtype=torch.float64, **options)


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone).double()


def made(backbone, **fields):
    return perturbed(seeded(lambda: attrs.evolve(SMALL, **fields).build(backbone)), 0.2).double().eval()


def posterior_of(backbone, rows=ROWS):
    with torch.no_grad():
        return Posterior(backbone.latents(points(rows, backbone.layout.dim, torch.float64)).detach())


def replaced(u, layout, layer, other):
    """u with one layer of another."""
    parts = list(layout.split(u))
    parts[layer] = layout.split(other)[layer]
    return layout.join(parts)


# ---------------------------------------------------------------- learning


def test_each_negative_layer_is_a_base_draw_below_the_posteriors_upper_layers(backbone):
    posterior, layout = posterior_of(backbone), backbone.layout
    fresh = points(ROWS, layout.dim, torch.float64, "fresh")
    parts = {i: part.flatten(1) for i, part in enumerate(layout.split(fresh))}
    negative = redrawn(posterior.latents, layout, parts)
    for i in range(2):
        at = backbone.latents(replaced(posterior.latents.u, layout, i, fresh))
        torch.testing.assert_close(negative.z[i], at.z[i])
        torch.testing.assert_close(negative.sigma[i], at.sigma[i])
        torch.testing.assert_close(layout.split(negative.u)[i], layout.split(fresh)[i])
    assert not torch.allclose(negative.z[1], backbone.latents(fresh).z[1])  # no draw of the base itself


@pytest.mark.parametrize("coordinate", ["z-given-above", "z"])
def test_the_loss_is_the_sum_of_every_layers_contrast(backbone, coordinate):
    prior = made(backbone, energy=attrs.evolve(GIVEN_ABOVE, coordinate=coordinate))
    posterior, fresh = posterior_of(backbone), noise("o", "negative").normal(ROWS, backbone.layout.dim)
    loss = prior.objective(backbone, posterior, noise("o"), STEP)
    each = []
    for i in range(2):
        at = backbone.latents(replaced(posterior.latents.u, backbone.layout, i, fresh))
        each.append(bce(prior.energy.of_layer(posterior.latents, i)[:, 0], prior.energy.of_layer(at, i)[:, 0]))
    torch.testing.assert_close(loss.total, sum(each))
    torch.testing.assert_close(loss.terms["bce_layer_1"], each[1].detach())
    assert loss.negative is None


def test_at_the_start_the_loss_is_2_log_2_a_layer(backbone):
    loss = made_at_start(backbone).objective(backbone, posterior_of(backbone), noise("o"), STEP)
    assert float(loss.total.detach()) == pytest.approx(2 * 2 * math.log(2), abs=1e-12)


def made_at_start(backbone):
    return seeded(lambda: NCP(energy=MLP(width=8, coordinate="z-given-above")).build(backbone)).double()


# ---------------------------------------------------------------- one of many proposals


@pytest.mark.parametrize("proposals", [2, 127, 128, 300])
def test_without_weights_the_draw_is_the_root_and_every_proposal_counts(proposals):
    found = select(lambda u: 0 * u[..., 0], 3000, 1, proposals, noise("sir"))
    torch.testing.assert_close(found.share, torch.ones(3000).double())
    assert abs(found.u.mean()) < 4 / 3000**0.5
    assert abs(found.u.var() - 1) < 4 * (2 / 3000) ** 0.5


def test_the_share_is_that_of_all_proposals_whatever_the_blocks():
    seen = []

    def log_weight(u):
        seen.append(1.5 * u[..., 0])
        return seen[-1]

    found = select(log_weight, 5, 1, 300, noise("sir"))
    w = torch.cat(seen, dim=1).exp()
    assert [part.shape[1] for part in seen] == [128, 128, 44]
    torch.testing.assert_close(found.share, w.sum(1).square() / (300 * w.square().sum(1)))


def test_what_is_chosen_is_one_of_the_proposals_and_the_only_one_with_weight():
    def log_weight(u):
        log_w = torch.full_like(u[..., 0], -torch.inf)
        if u.shape[1] == 44:  # the third block
            log_w[:, 7] = 0
        return log_w

    found = select(log_weight, 5, 2, 300, noise("sir"))
    assert torch.equal(found.u, noise("sir", 2).normal(5, 44, 2)[:, 7])
    torch.testing.assert_close(found.share, torch.full((5,), 1 / 300).double())


def test_a_nan_weight_makes_its_sample_nan_and_leaves_the_others_alone():
    def log_weight(u):
        return u[..., 0]

    def spoiled(u):
        log_w = u[..., 0].clone()
        log_w[1, 3] = torch.nan
        return log_w

    clean, poisoned = (select(weight, 5, 1, 200, noise("sir")) for weight in (log_weight, spoiled))
    keep = [0, 2, 3, 4]
    assert poisoned.u[1].isnan().all()
    assert torch.equal(poisoned.u[keep], clean.u[keep])


# ---------------------------------------------------------------- exact tilts


class Shift(EnergyFn):
    """f_i = a_i (z_i − μ_i) − a_i² / 2: z_i | z_above ~ N(μ_i + a_i, 1) on a walk."""

    def __init__(self, *shifts):
        super().__init__()
        self.shifts = nn.Parameter(torch.tensor(shifts, dtype=torch.float64))

    def forward(self, latents, t=None):
        return (latents.u * self.shifts - self.shifts**2 / 2).unsqueeze(2)


def walk(mode, proposals=400, sampler=None):
    backbone = Walk(layers=2)
    drawing = LayerDrawing(mode, proposals, sampler or ULA(steps=30, step_size=0.4))
    return backbone, NCPPrior(GaussianPrior(backbone.layout), Shift(0.7, -0.5), backbone.layout, drawing)


@pytest.mark.parametrize("mode", ["sir", "langevin"])
def test_draws_have_the_moments_of_the_tilted_hierarchy(mode):
    """z_2 ~ N(0.7, v), z_1 | z_2 ~ N(z_2 − 0.5, v); v = 1, for chains of step h 1 / (1 − h/4)."""
    (backbone, prior), n = walk(mode), 3000
    draw = prior.sample(backbone, n, noise("s"))
    v = 1.0 if mode == "sir" else 1 / 0.9
    z = backbone.latents(draw.u).flat_z
    mean, cov = torch.tensor([0.7, 0.2]).double(), v * torch.tensor([[1, 1], [1, 2]]).double()
    var = cov.diagonal()
    assert ((z.mean(0) - mean).abs() < 4 * (var / n).sqrt() + 0.005).all()
    assert ((z.T.cov() - cov).abs() < 4 * ((var.outer(var) + cov.square()) / n).sqrt() + 0.01).all()
    if mode == "sir":
        for i, shift in enumerate((0.7, -0.5)):
            assert abs(draw.diagnostics[f"ess_layer_{i}"].mean() - math.exp(-(shift**2))) < 0.02


# ---------------------------------------------------------------- drawing layer by layer


def test_a_layers_chain_moves_it_alone_after_those_above(backbone):
    prior, seen = made(backbone, sampling="langevin"), []
    u = prior.sample(
        backbone, ROWS, noise("s"), Request(observe=lambda *step: seen.append((*step[:2], step[2][0], step[3])))
    ).u
    assert [step[:2] for step in seen] == [(f"layer {i}", k) for i in range(2) for k in range(4)]
    top, low = slice(0, 3), slice(3, 7)
    start = noise("s", "base").normal(ROWS, 7)
    for name, _, state, info in seen:
        moved, rest = (top, low) if name == "layer 0" else (low, top)
        assert torch.equal(state[:, rest], (start if name == "layer 0" else u)[:, rest])
        assert not info.grad[:, rest].any()
        assert info.grad[:, moved].all()
    assert torch.equal(seen[-1][2], u)


@pytest.mark.parametrize("mode", ["sir", "langevin"])
def test_a_layer_is_drawn_by_its_own_ratio_given_those_above(backbone, mode):
    """Another f_1 leaves the top as it was; another f_0 moves both."""
    drawn = []
    for changed in (None, 1, 0):
        prior = perturbed(made(backbone, sampling=mode), 1.0)
        if changed is not None:
            perturbed(prior.energy.nets[changed], 1.0)
        drawn.append(backbone.layout.split(prior.sample(backbone, ROWS, noise("s")).u))
    plain, low, top = drawn
    assert torch.equal(plain[0], low[0])
    assert not torch.equal(plain[1], low[1])
    assert not torch.equal(plain[0], top[0])
    assert not torch.equal(plain[1], top[1])


def test_a_chain_of_a_layer_is_written_out(backbone):
    """u_0 + (h/2) (∇ f_0(T(u)) − u_0) + √h ξ."""
    prior = made(backbone, sampling="langevin")
    u, source = noise("s", "base").normal(ROWS, 7), noise("s", "layer", 0)
    for _ in range(4):
        leaf = u.clone().requires_grad_()
        (grad,) = torch.autograd.grad(prior.energy.of_layer(backbone.latents(leaf), 0).sum(), leaf)
        u[:, :3] += 0.1 * (grad - u)[:, :3] + math.sqrt(0.2) * source.normal(ROWS, 3)
    found = prior.sample(backbone, ROWS, noise("s")).u
    torch.testing.assert_close(found[:, :3], u[:, :3])


@pytest.mark.parametrize("mode", ["sir", "langevin"])
def test_rows_64_to_127_alone_are_those_of_the_whole(backbone, mode):
    prior = made(backbone, sampling=mode, proposals=10)
    whole, alone = (prior.sample(backbone, n, noise("s", start=start)) for n, start in ((128, 0), (64, 64)))
    torch.testing.assert_close(alone.u, whole.u[64:], rtol=0, atol=1e-12)
    for name, figure in whole.diagnostics.items():
        torch.testing.assert_close(alone.diagnostics[name], figure[64:])


@pytest.mark.parametrize("mode", ["sir", "langevin"])
def test_a_sample_whose_noise_is_nan_is_nan_and_alone(backbone, mode):
    prior = made(backbone, sampling=mode)
    clean = prior.sample(backbone, ROWS, noise("s")).u
    poisoned = prior.sample(backbone, ROWS, PoisonedNoise(0, "s", dtype=torch.float64)).u
    assert poisoned.isnan().all(1).tolist() == [False, True, *[False] * 4]
    keep = [0, 2, 3, 4, 5]
    torch.testing.assert_close(poisoned[keep], clean[keep], rtol=0, atol=0)


# ---------------------------------------------------------------- effective shares, fixed coordinates


def test_every_layers_effective_share_is_told_for_each_sample(backbone):
    draw = made(backbone).sample(backbone, ROWS, noise("s"))
    assert list(draw.diagnostics) == ["ess_layer_0", "ess_layer_1"]
    for share in draw.diagnostics.values():
        assert share.shape == (ROWS,)
        assert ((share > 1 / 150) & (share < 1)).all()
    assert made(backbone, sampling="langevin").sample(backbone, ROWS, noise("s")).diagnostics == {}


def test_a_fixed_layer_is_as_given_and_worth_all_its_proposals(backbone):
    given = points(ROWS, 7, torch.float64, "given")
    fixed = backbone.layout.fix(given, {0})
    draw = made(backbone).sample(backbone, ROWS, noise("s"), Request(fixed=fixed))
    assert torch.equal(draw.u[:, fixed.mask], given[:, fixed.mask])
    torch.testing.assert_close(draw.diagnostics["ess_layer_0"], torch.ones(ROWS).double())
    assert ((draw.diagnostics["ess_layer_1"] > 0) & (draw.diagnostics["ess_layer_1"] < 1)).all()


@pytest.mark.parametrize("mode", ["sir", "langevin"])
def test_single_coordinates_may_be_fixed(backbone, mode):
    given = points(ROWS, 7, torch.float64, "given")
    fixed = Fixed(given, torch.tensor([True, False, False, False, True, True, False]))
    u = made(backbone, sampling=mode).sample(backbone, ROWS, noise("s"), Request(fixed=fixed)).u
    assert torch.equal(u[:, fixed.mask], given[:, fixed.mask])
    assert not (fixed.free(u) == fixed.free(given)).any()


def test_what_is_fixed_shapes_the_layers_below():
    """z_1 | z_2 = 2 ~ N(1.5, 1)."""
    backbone, prior = walk("sir", 200)
    n = 2000
    fixed = backbone.layout.fix(torch.full((n, 2), 2.0).double(), {0})
    z = backbone.latents(prior.sample(backbone, n, noise("s"), Request(fixed=fixed)).u).z[1]
    assert abs(z.mean() - 1.5) < 4 / n**0.5 + 0.01


# ---------------------------------------------------------------- what is refused


def test_one_net_over_all_layers_is_refused_with_what_to_use(backbone):
    with pytest.raises(ConfigError, match=r"prior\.energy: 'ncp'.*layer-wise energy such as mlp"):
        made(backbone, energy=MLPConcat(width=8)).objective(backbone, posterior_of(backbone), noise("o"), STEP)


def test_a_tilted_root_is_refused(backbone):
    with pytest.raises(ConfigError, match=r"prior\.root: JointPrior tilts a root itself.*use a root"):
        made(backbone, root=Joint(energy=MLP(width=8)))
