"""Promises of flows beyond the interface: they start at their root, learn dependence, and refuse what is too large."""

import os
import signal
import sys

import attrs
import hebm
import pytest
import torch
from conftest import LAYERS, SMALL, Maps
from hebm import Annealing, ConfigError, Noise, PluginError, Posterior
from hebm.interfaces import Draw, Normalised, Progress, Request, seen_by
from hebm.registry import find
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import seeded

from hebm_flows.recipe import Flow, LayerFlow

LEARNING = {"width": 16, "transforms": 2, "bins": 4}
KINDS = [
    Flow(**SMALL),
    Flow(**{**SMALL, "kind": "affine"}),
    LayerFlow(**LAYERS),
    LayerFlow(**LAYERS, condition="above"),
]


def made(recipe, backbone=ReferenceBackbone):
    backbone = seeded(backbone).double()
    return backbone, seeded(lambda: recipe.build(backbone)).double()


def perturbed(prior, size):
    """Add random numbers to all parameters, because a flow with parameters of 0 is its root."""
    with torch.no_grad():
        for name, parameter in prior.named_parameters():
            noise = Noise(0, "perturbed", name, dtype=torch.float64).normal(parameter.numel())
            parameter.add_(size * noise.view_as(parameter))


def two_modes(rows):
    """Draws around ±(1, …, 1): the coordinates depend on each other, and are not Gaussian."""
    noise = Noise(0, "data", dtype=torch.float64)
    return noise.normal(rows, 1).sign() + 0.3 * noise.normal(rows, 7)


@pytest.mark.parametrize(("name", "kind"), [("flow", Flow), ("layer-flow", LayerFlow)])
def test_priors_are_found_by_name(name, kind):
    assert find("hebm_priors", name) is kind


@pytest.mark.parametrize("recipe", KINDS)
def test_before_training_a_flow_is_its_root(recipe):
    backbone, prior = made(recipe)
    noise = Noise(0, "u", dtype=torch.float64)
    root, draw = (prior.sample(backbone, 10, noise, Request(after=after)).u for after in ("root", None))
    torch.testing.assert_close(draw, root)
    latents = backbone.latents(root)
    torch.testing.assert_close(prior.tilt(_shown(prior, backbone, latents.u)).sum(1), torch.zeros(10).double())


def _shown(prior, backbone, u):
    with torch.no_grad():
        return seen_by(prior, backbone, u).detach()


@pytest.mark.parametrize("recipe", KINDS)
def test_the_density_of_a_draw_is_that_of_its_noise_over_the_volume(recipe):
    backbone, prior = made(recipe)
    perturbed(prior, 0.1)
    noise = Noise(0, "u", dtype=torch.float64)
    v, u = (prior.sample(backbone, 3, noise, Request(after=after)).u for after in ("root", None))

    def drawn(v):
        return torch.stack([_drawn(prior, backbone, row) for row in v])

    step, volumes = 1e-5, []
    for row in v:
        ends = [drawn(row + sign * step * torch.eye(7).double()) for sign in (1, -1)]
        volumes.append(torch.linalg.slogdet((ends[0] - ends[1]) / (2 * step)).logabsdet)
    f = prior.tilt(_shown(prior, backbone, u)).sum(1)
    expected = 0.5 * (u.square() - v.square()).sum(1) - torch.stack(volumes)
    assert float(f.detach().abs().max()) > 0.05
    torch.testing.assert_close(f, expected, atol=1e-5, rtol=1e-5)


def _drawn(prior, backbone, v):
    """Return the draw that the flow makes of noise v `(D,)`."""
    at = Draw(v.unsqueeze(0))
    for transition in prior.transitions(backbone):
        at = transition.move(at, Noise(0, dtype=torch.float64), Request())
    return at.u[0]


@pytest.mark.parametrize(
    "recipe", [Flow(**LEARNING), LayerFlow(**LEARNING, condition="above", dropout=0.0)], ids=lambda r: type(r).__name__
)
def test_maximum_likelihood_learns_dependence_between_latents(recipe):
    backbone, prior = made(recipe)
    u = two_modes(256)
    posterior = Posterior(_shown(prior, backbone, u))
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.02)
    for step in range(60):
        optimizer.zero_grad()
        prior.objective(backbone, posterior, Noise(step), Progress(step, 60)).total.backward()
        optimizer.step()
    draw = prior.sample(backbone, 512, Noise(1, "sample", dtype=torch.float64)).u
    together = (draw.sign().sum(1).abs() == 7).double().mean()
    assert together > 0.8  # 2⁻⁶ for the root
    assert 0.4 < (draw.mean(1) > 0).double().mean() < 0.6


def test_log_z_is_known_and_0():
    backbone, prior = made(Flow(**SMALL))
    assert isinstance(prior, Normalised)
    assert hebm.Model(backbone, prior).log_z(Annealing()).estimates == (0.0,)


def test_features_are_standardised_by_draws_of_the_root():
    backbone, prior = made(LayerFlow(**LAYERS), Maps)
    prior.stages()[-1].start(backbone, Noise(0, dtype=torch.float64), None)
    condition = list(prior.factors)[1].condition
    u = prior.root.sample(backbone, 512, Noise(0, dtype=torch.float64)).u
    feature = backbone.latents(u).z[0]
    torch.testing.assert_close(condition.mean, feature.mean(0))
    torch.testing.assert_close(condition.std, feature.std(0))


def test_held_out_loss_has_no_dropout_and_training_has():
    backbone, prior = made(LayerFlow(**LAYERS, dropout=0.5))
    perturbed(prior, 0.3)
    posterior = Posterior(_shown(prior, backbone, two_modes(64)))
    held_out = [prior.held_out(backbone, posterior, Noise(i)).loss().total for i in range(2)]
    training = [prior.objective(backbone, posterior, Noise(i), Progress(0, 1)).total for i in range(2)]
    assert torch.equal(*held_out)
    assert not torch.equal(*training)


def test_fixed_layers_at_the_top_need_no_chain():
    backbone, prior = made(LayerFlow(**LAYERS))
    seen = []
    given = torch.ones(4, 7).double()
    for layers in ({0}, {1}):
        fixed = backbone.layout.fix(given, layers)
        observe = lambda *step, layers=layers: seen.append((layers, step[0]))  # noqa: E731
        prior.sample(backbone, 4, Noise(0, dtype=torch.float64), Request(fixed=fixed, observe=observe))
    assert seen == 100 * [({1}, "given")]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Flow(max_weights=1000), r"(?s)all latents u, 7 numbers, .*prior\.max_weights allows 1,000; use prior\.type"),
        (Flow(width=5), r"width 5 sees only 5 of all latents u, 7 numbers; set a width of at least 6"),
        (LayerFlow(condition_width=10**4, max_weights=10**6), r"layer 0, 3 numbers, .*use a smaller width"),
        (LayerFlow(root=Flow()), r"prior\.root"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_what_to_do(recipe, message):
    with pytest.raises(ConfigError, match=message):
        recipe.build(ReferenceBackbone())


def test_a_large_spatial_layer_is_told_of_positions():
    with pytest.raises(ConfigError, match=r'layer 0, 4 numbers, .*spatial = "positions"'):
        LayerFlow(spatial="whole", max_weights=1000).build(Maps())


def test_a_backbone_without_features_is_told_of_the_layers_above():
    backbone = ReferenceBackbone()
    backbone.layout = attrs.evolve(backbone.layout, features=())
    with pytest.raises(ConfigError, match=r'condition = "above"'):
        LayerFlow().build(backbone)


@pytest.mark.parametrize("version", [None, "1.2.0"])
def test_a_missing_or_old_zuko_is_an_error_that_names_the_command(monkeypatch, version):
    if version is None:
        monkeypatch.setitem(sys.modules, "zuko", None)
    else:
        monkeypatch.setattr("zuko.__version__", version)
    with pytest.raises(PluginError, match=r"pip install 'zuko>=1\.6'"):
        Flow().build(ReferenceBackbone())


# ---------------------------------------------------------------- a run

TABLE = {
    "name": "tiny",
    "data": {"type": "digits", "limit": 128, "batch_size": 64},
    "backbone": {"type": "two-layer", "z_dims": [2, 3], "generator": "mlp", "widths": [8]},
    "prior": {"type": "layer-flow", "width": 8, "transforms": 1},
    "train": {"type": "two-phase", "backbone": {"steps": 2}, "prior": {"steps": 6}},
    "evaluate": {"metrics": [{"type": "likelihood", "images": 64}], "samples": 64},
}


class Stopping(hebm.Listener):
    """Sends Ctrl-C at one step."""

    def __init__(self, step):
        self.left = step

    def stepped(self, loss):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_stopped_and_resumed_run_equals_a_whole_one_and_its_likelihood_is_a_bound(tmp_path):
    table = {**TABLE, "run": {"cache_folder": str(tmp_path / "cache")}}
    experiment = hebm.Experiment.from_table(table)
    whole = hebm.train(experiment, tmp_path / "whole" / "tiny", progress=hebm.Listener())
    assert not hebm.train(experiment, tmp_path / "half" / "tiny", progress=Stopping(5)).reached.finished
    half = hebm.train(experiment, tmp_path / "half" / "tiny", progress=hebm.Listener())
    one, other = (run.model.prior.state_dict() for run in (whole, half))
    assert all(torch.equal(one[name], other[name]) for name in one)
    found = {each.name: each.value for each in whole.evaluate()}
    assert found["elbo-learned"] == pytest.approx(found["elbo"] + found["elbo-gain"])
    assert found["log-z"] == 0
