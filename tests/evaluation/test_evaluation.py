from __future__ import annotations

import threading

import pytest
import torch
from tiny_models import EXTRACTORS, LinearBackbone, RootPrior, ShiftedPrior, TinyData, gathering, tiny_evaluation
from torch.distributions import Independent, Normal

from hebm.errors import ConfigError, DataError, NonFiniteError

KINDS = ("data", "reconstruction", "gaussian", ("gaussian", 0.7), "prior")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decode", ["mean", "sample"])
def test_images_do_not_depend_on_the_batch_size(tmp_path, kind, decode):
    large, small = (tiny_evaluation(tmp_path, batch_size=size, decode=decode).pixels(kind) for size in (512, 100))
    assert large.shape == (300, 1, 8, 8)
    assert (large.int() - small.int()).abs().max() <= 1
    assert (large != small).float().mean() < 0.01


def test_more_samples_begin_with_the_same_ones(tmp_path):
    few, many = (tiny_evaluation(tmp_path, samples=n, batch_size=64).pixels("prior") for n in (128, 300))
    assert torch.equal(many[:128], few)


def test_processes_draw_bit_equal_images_and_features():
    alone = tiny_evaluation(EXTRACTORS, batch_size=64)
    expected = {kind: (alone.pixels(kind), alone.features(kind)) for kind in ("prior", "reconstruction")}
    found = {}

    def process(rank, gather):
        shared = tiny_evaluation(EXTRACTORS, batch_size=64, world=2, rank=rank, gather=gather)
        found[rank] = {kind: (shared.pixels(kind), shared.features(kind)) for kind in expected}

    threads = [threading.Thread(target=process, args=pair) for pair in enumerate(gathering(2))]
    [thread.start() for thread in threads]
    [thread.join(timeout=120) for thread in threads]
    for kind, tensors in expected.items():
        for rank in (0, 1):
            assert all(torch.equal(a, b) for a, b in zip(found[rank][kind], tensors, strict=True))


def test_scaled_gaussian_shares_the_gaussians_draws(tmp_path):
    evaluation = tiny_evaluation(tmp_path)
    plain, scaled = (evaluation.draw(kind, 64, 10).u for kind in ("gaussian", ("gaussian", 0.5)))
    assert torch.equal(scaled, 0.5 * plain)


def test_a_root_priors_images_are_the_gaussians(tmp_path):
    evaluation = tiny_evaluation(tmp_path, prior=RootPrior(LinearBackbone().layout))
    assert torch.equal(evaluation.pixels("prior"), evaluation.pixels("gaussian"))


def test_gaussian_is_the_root_that_the_prior_tilts(tmp_path):
    evaluation = tiny_evaluation(tmp_path)
    alone = tiny_evaluation(tmp_path, prior=RootPrior(LinearBackbone().layout))
    assert evaluation.root is evaluation.model.prior.root
    assert torch.equal(evaluation.pixels("gaussian"), alone.pixels("gaussian"))


def test_an_evaluation_on_other_numbers_shares_extractors_and_nothing_measured():
    evaluation = tiny_evaluation(EXTRACTORS)
    features = evaluation.features("gaussian")
    few = evaluation.measured_on(128)
    assert few.extractors is evaluation.extractors
    assert torch.allclose(few.features("gaussian"), features[:128], atol=1e-4)
    assert len(evaluation.features("gaussian")) == 300
    assert evaluation.measured_on(300) is evaluation


def test_global_generator_and_modes_are_left_alone():
    evaluation = tiny_evaluation(EXTRACTORS)
    evaluation.model.backbone.drop.eval()
    before = torch.get_rng_state()
    modes = [module.training for module in evaluation.model.backbone.modules()]
    [evaluation.pixels(kind) for kind in KINDS]
    evaluation.features("prior")
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in evaluation.model.backbone.modules()] == modes


def test_nonfinite_images_are_counted_and_refused():
    prior = ShiftedPrior(LinearBackbone().layout, 1.0, broken=[3, 70, 299])
    evaluation = tiny_evaluation(EXTRACTORS, prior=prior, batch_size=64)
    with pytest.raises(NonFiniteError, match="3 of 300 images of kind 'prior'"):
        evaluation.distance("prior")
    assert evaluation.distance("gaussian") > 0


def test_one_broken_chain_leaves_the_others_alone(tmp_path):
    layout = LinearBackbone().layout
    whole = tiny_evaluation(tmp_path).decoded("prior", 0, 64)
    broken = tiny_evaluation(tmp_path, prior=ShiftedPrior(layout, 1.0, broken=[5])).decoded("prior", 0, 64)
    others = torch.arange(64) != 5
    assert torch.equal(broken[others], whole[others])
    assert broken[5].isnan().all()


def test_few_reference_images_are_all_used_and_counted(tmp_path):
    evaluation = tiny_evaluation(tmp_path, data=TinyData(rows=150))
    assert [evaluation.count(kind) for kind in KINDS] == [150, 150, 300, 300, 300]
    assert len(evaluation.pixels("reconstruction")) == 150


def test_reconstructions_show_the_reference_images(tmp_path):
    evaluation = tiny_evaluation(tmp_path)
    data, reconstructions = (evaluation.pixels(kind).float() for kind in ("data", "reconstruction"))
    to_own, to_next = ((data - other).abs().mean() for other in (reconstructions, reconstructions.roll(1, 0)))
    assert to_own < 0.1 * to_next


def test_a_split_of_one_image_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"evaluate\.split"):
        tiny_evaluation(tmp_path, data=TinyData(rows=1, batch_size=1))


def test_sampling_decode_needs_a_likelihood_with_derived_noise(tmp_path):
    evaluation = tiny_evaluation(tmp_path, decode="sample")
    evaluation.model.backbone.likelihood = lambda latents: Independent(Normal(latents.z[1], 1.0), 1)
    with pytest.raises(ConfigError, match='decode = "mean"'):
        evaluation.decoded("prior", 0, 4)
