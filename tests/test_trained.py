"""The one object that draws, decodes and infers: the same samples for everyone, and modules left as they were."""

import pytest
import torch
from torch import nn

from hebm.draws import Draw
from hebm.errors import ConfigError, NonFiniteError
from hebm.gaussian import Gaussian
from hebm.interfaces import ROOT, Batch, ImageSpec, Request
from hebm.labelled import check_labels
from hebm.model import Model
from hebm.testing.subjects import perturbed, seeded
from hebm.trained import TrainedModel, count_nonfinite, finite
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.energies.mlp_time import MLPTime
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Drawing
from hebm_plugins.priors.ncp.recipe import NCP
from hebm_plugins.samplers.ula import ULA
from hebm_plugins.two_layer.recipe import TwoLayer

CHAIN = ULA(steps=3, step_size=0.1)
RECIPES = {
    "gaussian": Gaussian(),
    "joint": Joint(energy=MLP(width=8), sampler=CHAIN),
    "diffusion": Diffusion(energy=MLPTime(width=8), sampler=ULA(steps=3, step_size=1.0), classes=3),
    "multi-stage": MultiStage(stages=2, energy=MLP(width=8), sampler=CHAIN),
    "progressive": MultiStage(stages=2, energy=MLP(width=8), sampler=CHAIN, drawing=Drawing(mode="progressive")),
    "smc": MultiStage(stages=2, energy=MLP(width=8), sampler=CHAIN, drawing=Drawing(mode="smc", particles=4)),
    "ncp": NCP(energy=MLP(width=8, coordinate="z-given-above"), proposals=8),
}
WALKS = {
    "gaussian": [ROOT],
    "joint": [ROOT, "prior"],
    "diffusion": [ROOT, "level 2", "level 1", "level 0"],
    "multi-stage": [ROOT, "stage 2"],  # the product's own chain alone
    "progressive": [ROOT, "stage 1", "stage 2"],
    "smc": [ROOT, "stage 1", "stage 2"],
    "ncp": [ROOT, "layer 0", "layer 1"],
}


@pytest.fixture(scope="module")
def backbone():
    recipe = TwoLayer(z_dims=(3, 5), widths=(16,), inference_width=16)
    return seeded(lambda: recipe.build(ImageSpec(1, 8, 8, classes=("a", "b", "c"))))


def prior_of(backbone, name):
    prior = perturbed(seeded(lambda: RECIPES[name].build(backbone)), 0.3)
    if isinstance(RECIPES[name], MultiStage):
        prior.trained_stages = 2
    return prior


def model_of(backbone, name="joint", **options):
    return TrainedModel(backbone, prior_of(backbone, name), seed=7, **options)


def batch_of(n):
    x = torch.linspace(-1, 1, n * 64).view(n, 1, 8, 8)
    return Batch(x, x, None, torch.arange(n))


# ---------------------------------------------------------------- the same samples


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("decoding", ["mean", "sample"])
def test_sample_i_is_the_same_for_any_batch_size(backbone, name, decoding):
    small, large = (model_of(backbone, name, rows=rows, decoding=decoding) for rows in (64, 512))
    draws = [model.draw(150, model.noise("prior")) for model in (small, large)]
    torch.testing.assert_close(draws[0].u, draws[1].u, atol=1e-4, rtol=0)
    images = [model.images(draw, model.noise("prior")) for model, draw in zip((small, large), draws, strict=True)]
    torch.testing.assert_close(images[0], images[1], atol=1e-4, rtol=0)
    assert draws[0].diagnostics.keys() == draws[1].diagnostics.keys()
    assert all(values.shape == (150,) for values in draws[0].diagnostics.values())


@pytest.mark.parametrize("name", RECIPES)
def test_draws_from_a_later_start_are_those_of_the_whole_bit_for_bit(backbone, name):
    model = model_of(backbone, name, rows=64)
    whole, later = model.draw(192, model.noise("prior")), model.draw(128, model.noise("prior", 64))
    assert torch.equal(later.u, whole.u[64:])


def test_a_request_of_several_batches_is_cut_with_them(backbone):
    model, labels = model_of(backbone, "diffusion", rows=64), torch.arange(150) % 3
    fixed = backbone.layout.fix(torch.linspace(-1, 1, 150).unsqueeze(1).expand(-1, 8).contiguous(), (0,))
    request = Request(labels=labels, fixed=fixed)
    whole = model.draw(150, model.noise("prior"), request)
    part = model.draw(64, model.noise("prior", 64), request.rows(slice(64, 128)))
    assert torch.equal(part.u, whole.u[64:128])
    assert torch.equal(whole.u[:, :3], fixed.u[:, :3])
    assert not torch.equal(whole.u, model.draw(150, model.noise("prior"), Request(fixed=fixed)).u)


def test_no_samples_at_all_are_refused(backbone):
    model = model_of(backbone)
    for draw in (model.draw, model.draw_root):
        with pytest.raises(ConfigError, match="number of samples: expected at least 1, got 0"):
            draw(0, model.noise("prior"))


def test_kinds_and_seeds_have_noise_of_their_own(backbone):
    model = model_of(backbone)
    plain = model.draw(4, model.noise("prior")).u
    assert not torch.equal(plain, model.draw(4, model.noise("gaussian")).u)
    other = TrainedModel(backbone, model.prior, seed=8)
    assert not torch.equal(plain, other.draw(4, other.noise("prior")).u)


def test_a_model_samples_what_its_trained_model_draws(backbone):
    model, request = model_of(backbone, "diffusion"), Request(steps=2, after="level 1")
    draw = model.changed(request=request).draw(70, model.noise("prior"))
    images = Model(backbone, model.prior).sample(70, seed=7, steps=2, after="level 1")
    assert torch.equal(images, model.images(draw))


# ---------------------------------------------------------------- the walk


@pytest.mark.parametrize("name", RECIPES)
def test_a_walk_yields_the_root_and_each_transition_of_the_draw(backbone, name):
    model = model_of(backbone, name)
    walked = list(model.walk(6, model.noise("prior")))
    assert [step for step, _ in walked] == WALKS[name]
    assert [step for step, _ in walked[1:]] == [transition.name for transition in model.path]
    if name != "gaussian":
        assert torch.equal(walked[-1][1].u, model.draw(6, model.noise("prior")).u)
        assert all(not torch.equal(walked[0][1].u, draw.u) for _, draw in walked[1:])


@pytest.mark.parametrize("name", ["joint", "diffusion", "progressive", "ncp"])
def test_a_draw_that_stops_after_a_transition_is_what_the_walk_passes_there(backbone, name):
    model = model_of(backbone, name)
    for step, draw in model.walk(6, model.noise("prior")):
        assert torch.equal(model.draw(6, model.noise("prior"), Request(after=step)).u, draw.u)


def test_a_draw_at_the_root_is_the_roots_own(backbone):
    model = model_of(backbone, request=Request(after=ROOT))
    assert model.path == model.transitions == ()
    assert model.tilt is None
    expected = model.prior.root.sample(backbone, 6, model.noise("prior").derive("base")).u
    assert torch.equal(model.draw(6, model.noise("prior")).u, expected)


@pytest.mark.parametrize("name", ["gaussian", "joint", "diffusion"])
def test_an_unknown_transition_is_named_with_those_that_exist(backbone, name):
    model = model_of(backbone, name, request=Request(after="stage 9"))
    for use in (lambda: model.path, lambda: model.transitions, lambda: model.draw(4, model.noise("prior"))):
        with pytest.raises(ConfigError, match=r"no transition 'stage 9'; it has 'root'"):
            use()


def test_stages_are_all_transitions_and_the_way_those_that_a_draw_needs(backbone):
    model = model_of(backbone, "multi-stage")
    assert [stage.name for stage in model.transitions] == ["stage 1", "stage 2"]
    assert [stage.name for stage in model.path] == ["stage 2"]
    names = [name for name, _ in model.walk(6, model.noise("prior"), path=model.transitions)]
    assert names == [ROOT, "stage 1", "stage 2"]


def test_chain_lengths_are_those_asked_for(backbone):
    assert model_of(backbone, "progressive").chain_lengths == {"stage 1": 3, "stage 2": 3}
    assert model_of(backbone, "progressive", request=Request(steps=9)).chain_lengths == {"stage 1": 9, "stage 2": 9}
    assert model_of(backbone, "progressive", request=Request(steps=0)).chain_lengths == {}
    assert model_of(backbone, "ncp").chain_lengths == {}


def test_start_proposals_of_a_prior_without_a_start_are_an_error_before_anything_is_drawn(backbone):
    model = model_of(backbone, "progressive", request=Request(start_proposals=4))
    with pytest.raises(ConfigError, match="start_proposals: the chains of this prior do not choose among"):
        model.check_request()


# ---------------------------------------------------------------- modes


@pytest.fixture
def mixed(backbone):
    """A model whose modules are in training, but for one; modes are put back afterwards."""
    model = model_of(backbone, "progressive")
    backbone.train()
    model.prior.train()
    model.prior.ratios[0].eval()
    yield model
    backbone.eval()


def modes(model):
    return [part.training for module in (model.backbone, model.prior) for part in module.modules()]


def test_modes_and_the_global_generator_are_as_before_after_every_use(mixed):
    before, state = modes(mixed), torch.get_rng_state()
    seen = []
    watched = Request(observe=lambda *_: seen.append(any(modes(mixed))))
    draw = mixed.draw(4, mixed.noise("prior"), watched)
    mixed.images(draw, mixed.noise("prior"))
    mixed.reconstructed(batch_of(4), mixed.noise("reconstruction"))
    mixed.of_latents(draw, lambda latents: mixed.tilt.at(mixed.generator, latents))
    assert modes(mixed) == before
    assert seen == [False] * 6  # chains themselves run in eval mode
    assert torch.equal(torch.get_rng_state(), state)


def test_modes_are_as_before_while_a_walk_is_suspended_and_after_it_is_left(mixed):
    before = modes(mixed)
    for _ in mixed.walk(4, mixed.noise("prior")):
        assert modes(mixed) == before
        assert torch.is_grad_enabled()
    left = mixed.walk(4, mixed.noise("prior"))
    next(left)
    left.close()
    assert modes(mixed) == before


def test_modes_are_as_before_where_a_chain_raises(mixed):
    def fail(*_):
        raise RuntimeError("half way")

    before = modes(mixed)
    with pytest.raises(RuntimeError, match="half way"):
        mixed.draw(4, mixed.noise("prior"), Request(observe=fail))
    assert modes(mixed) == before


def test_draws_images_and_posteriors_hold_no_graph(backbone):
    model = model_of(backbone)
    draw = model.draw(4, model.noise("prior"))
    posterior = model.infer(batch_of(4), model.noise("posterior"))
    assert not any(t.requires_grad for t in (draw.u, model.images(draw), posterior.latents.u))
    assert all(p.requires_grad for p in model.prior.parameters())


# ---------------------------------------------------------------- labels, and samples that are not finite


def test_labels_are_checked_against_prior_and_number(backbone):
    check_labels(prior_of(backbone, "joint"), None, 3)
    check_labels(prior_of(backbone, "diffusion"), torch.zeros(3, dtype=torch.int64), 3)
    with pytest.raises(ConfigError, match="not trained with labels"):
        check_labels(prior_of(backbone, "joint"), torch.zeros(3, dtype=torch.int64), 3)
    with pytest.raises(ConfigError, match="2 labels for 3 samples"):
        check_labels(prior_of(backbone, "diffusion"), torch.zeros(2, dtype=torch.int64), 3)


def test_samples_that_are_not_finite_are_counted_and_leave_the_others_alone(backbone):
    model = model_of(backbone)
    draw = model.draw(8, model.noise("prior"))
    spoiled = draw.moved(draw.u.index_fill(0, torch.tensor([2, 5]), torch.nan))
    images, clean = model.images(spoiled), model.images(draw)
    assert count_nonfinite(images) == 2
    others = [i for i in range(8) if i not in (2, 5)]
    assert torch.equal(images[others], clean[others])
    assert torch.equal(finite(clean), clean)
    with pytest.raises(NonFiniteError, match="2 of 8 samples are not finite"):
        finite(images)


def test_an_infinite_pixel_counts_as_not_finite():
    images = torch.zeros(3, 1, 2, 2)
    images[1, 0, 0, 0] = torch.inf
    assert count_nonfinite(images) == 1


def test_joined_draws_keep_contexts_and_diagnostics_in_order(backbone):
    model = model_of(backbone, "smc", rows=64)
    parts = [model.draw(64, model.noise("prior", start)) for start in (0, 64)]
    whole = Draw.joined(parts)
    assert torch.equal(whole.u, torch.cat([part.u for part in parts]))
    assert torch.equal(whole.diagnostics["ess"], torch.cat([part.diagnostics["ess"] for part in parts]))
    assert whole.context is None


def test_decoding_by_sampling_needs_a_likelihood_that_can_draw(backbone):
    model = model_of(backbone, decoding="sample")
    plain = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2, 1, 8, 8), 1.0), 3)
    with pytest.raises(ConfigError, match='decode = "mean"'):
        model.decoded(plain, model.noise("prior"))
    assert torch.equal(model.decoded(plain, None), plain.mean)


def test_a_backbone_without_parameters_is_taken_to_be_on_the_cpu():
    class Nothing(nn.Module):
        pass

    model = TrainedModel(Nothing(), prior=None)
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)
