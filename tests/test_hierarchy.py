"""Hierarchies by one top-down pass: the three-layer example keeps a backbone's promises; flows; errors of a layer."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import hebm
from hebm.errors import PluginError
from hebm.hierarchy import Hierarchy, InferringHierarchy, Layer
from hebm.interfaces import Batch, ImageSpec, LatentLayout, Progress
from hebm.likelihoods import GaussianPixels
from hebm.noise import Noise
from hebm.normals import Normal
from hebm.testing import cases, parametrize

EXAMPLE = Path(__file__).parents[1] / "examples" / "three_layers.py"


def load_example():
    """The example's module, without registering its backbone for the other tests."""
    spec = importlib.util.spec_from_file_location("three_layers", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["three_layers"] = module
    text = EXAMPLE.read_text().replace('@hebm.register("hebm_backbones", "three-layers")\n', "")
    exec(compile(text, str(EXAMPLE), "exec"), module.__dict__)
    return module


@parametrize([case for case in cases(load_example().ThreeLayersRecipe()) if case.name != "round-trip"])
def test_the_example_keeps_the_promises_of_a_backbone(check):
    check()


def test_the_class_of_the_example_has_at_most_forty_lines():
    lines = EXAMPLE.read_text().split("class ThreeLayers(")[1].split("\n@hebm.register")[0].splitlines()
    assert len([line for line in lines if line.strip()]) <= 40


class Chain(InferringHierarchy):
    """Two layers of one number; the second has a flow z → −z, and may lack its posterior."""

    def __init__(self, flow=None, posterior=True):
        super().__init__()
        self.layout = LatentLayout(((1,), (1,)), image=(1, 1, 1))
        self.flow, self.posterior, self.scale = flow, posterior, nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.calls = 0

    def start(self, like, context):
        return like.new_zeros(len(like), 1)

    def layer(self, index, state, above, evidence):
        self.calls += 1
        mean = state if above is None else above
        q = None if evidence is None or not self.posterior else Normal(evidence + mean, 0.1 * torch.ones_like(mean))
        return Layer(Normal(mean, self.scale.expand_as(mean)), mean, q, flow=self.flow if index else None)

    def encode(self, x):
        return x.flatten(1)

    def likelihood(self, latents):
        return GaussianPixels((self.state(latents) + latents.z[-1])[:, :, None, None], 0.3)


X = torch.tensor([[[[0.3]]], [[[-0.2]]]], dtype=torch.float64)
BATCH = Batch(X, X, None, torch.arange(2))


def noise():
    return Noise(0, "q", dtype=torch.float64)


def test_without_flows_the_kl_is_analytic_and_u_follows_q():
    posterior = Chain().infer(BATCH, noise())
    xi = noise().normal(2, 2)
    z = X.flatten(1) + 0.1 * xi[:, :1]
    torch.testing.assert_close(posterior.latents.z[0], z)
    below = z + X.flatten(1) + 0.1 * xi[:, 1:]
    torch.testing.assert_close(posterior.latents.z[1], below)
    torch.testing.assert_close(posterior.latents.u, torch.cat([z, below - z], 1) / 0.5)
    for i, (q, p) in enumerate(((X.flatten(1), 0 * z), (X.flatten(1) + z, z))):
        kl = torch.distributions.kl_divergence(torch.distributions.Normal(q, 0.1), torch.distributions.Normal(p, 0.5))
        torch.testing.assert_close(posterior.kl[:, i : i + 1], kl)
    assert posterior.q_u is not None
    assert posterior.mean is not None


def test_a_flow_is_applied_to_the_draw_of_its_layer_and_its_kl_is_estimated():
    posterior, plain = (Chain(flow).infer(BATCH, noise()) for flow in (torch.neg, None))
    torch.testing.assert_close(posterior.latents.z[1], -plain.latents.z[1])
    torch.testing.assert_close(posterior.log_q, plain.log_q)
    torch.testing.assert_close(posterior.kl[:, 0], plain.kl[:, 0])
    prior = Normal(posterior.latents.z[0], torch.full((2, 1), 0.5, dtype=torch.float64))
    torch.testing.assert_close(posterior.kl[:, 1], posterior.log_q[:, 1] - prior.log_prob(posterior.latents.z[1]))
    assert posterior.q_u is None
    assert posterior.mean is None


def test_decoding_goes_on_from_the_last_layer_and_runs_the_pass_again_only_if_it_must():
    backbone = Chain()
    latents = backbone.latents(noise().normal(2, 2))
    before = backbone.calls
    image = backbone.likelihood(latents).mean
    assert backbone.calls == before
    torch.testing.assert_close(backbone.likelihood(latents.detach()).mean, image)
    assert backbone.calls == before + 2


def test_the_objective_trains_through_the_pass():
    backbone = Chain()
    backbone.objective(BATCH, noise(), Progress(0, 1)).total.backward()
    assert backbone.scale.grad.abs() > 0


def test_a_layer_that_returns_no_posterior_is_an_error_that_says_so():
    with pytest.raises(PluginError, match="returned no posterior: its method `layer` must return one"):
        Chain(posterior=False).infer(BATCH, noise())


@pytest.mark.parametrize("name", ["TwoLayer", "HVAE", "NVAETiny", "VDVAETiny"])
def test_the_hierarchies_of_hebm_share_this_pass(name):
    assert isinstance(getattr(hebm, name)().build(ImageSpec(1, 32, 32)), Hierarchy)
