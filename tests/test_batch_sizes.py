import attrs
import pytest
import torch

from hebm import batch_sizes
from hebm.batch_sizes import bytes_per_sample, chosen_rows
from hebm.gaussian import GaussianPrior
from hebm.interfaces import ImageSpec
from hebm.model import Model
from hebm.trained import TrainedModel
from hebm_plugins.priors.joint import Joint
from hebm_plugins.samplers.ula import ULA
from hebm_plugins.two_layer.recipe import TwoLayer


def model(**options):
    backbone = TwoLayer(z_dims=(2, 4), **options).build(ImageSpec(1, 8, 8))
    return TrainedModel(backbone, Joint(sampler=ULA(steps=2)).build(backbone))


def test_the_bytes_of_a_sample_are_those_of_its_activations_and_not_of_the_weights():
    one = model(generator="mlp", widths=(64,))
    counted = bytes_per_sample(one)
    hidden = 4 * 64
    assert hidden <= counted < 16 * hidden
    assert counted < sum(4 * p.numel() for p in one.backbone.parameters())
    assert bytes_per_sample(model(generator="mlp", widths=(1024,))) >= counted + 4 * (1024 - 64)


def test_measuring_changes_neither_the_parameters_nor_the_modes():
    one = model()
    one.backbone.train()
    before = {name: value.clone() for name, value in one.backbone.state_dict().items()}
    chosen_rows(one)
    assert one.backbone.training
    assert all(p.requires_grad and p.grad is None for p in one.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in one.backbone.state_dict().items())


@pytest.mark.parametrize(("share", "rows"), [(10_000, 512), (200.5, 192), (1, 64)])
def test_batches_are_whole_blocks_that_fit_into_memory_within_bounds(monkeypatch, share, rows):
    one = model()
    monkeypatch.setattr(batch_sizes, "machine_memory", lambda: int(8 * share * bytes_per_sample(one)))
    assert chosen_rows(one) == rows


def test_several_particles_of_a_sample_need_as_many_times_the_memory():
    one, several = model(), model()
    several.prior.population = attrs.evolve(several.prior.population, count=8)
    assert bytes_per_sample(several) == 8 * bytes_per_sample(one)


def test_a_model_computes_its_default_batch_size_at_a_time_and_the_same_samples_with_another(monkeypatch):
    parts = [getattr(model(), name) for name in ("backbone", "prior")]
    assert Model(*parts).default_batch_size == 512
    monkeypatch.setattr("hebm.model.chosen_rows", lambda model: 64)
    one = Model(*parts)
    assert one.default_batch_size == 64
    batches = list(one.sample_batches(130))
    assert [len(batch) for batch in batches] == [64, 64, 2]
    torch.testing.assert_close(torch.cat(batches), one.sample(130, batch_size=512), atol=1e-4, rtol=0)


def test_it_is_measured_once_for_each_device_type_and_transition(monkeypatch):
    one, measured = Model(*(getattr(model(), name) for name in ("backbone", "prior"))), []
    monkeypatch.setattr("hebm.model.chosen_rows", lambda model: measured.append(model.request.after) or 64)
    for after in (None, "root", None):
        one.sample(2, after=after)
    assert measured == [None, "root"]
    one.double().sample(1)
    assert len(measured) == 3


def test_a_prior_without_a_tilt_has_a_batch_size():
    backbone = TwoLayer(z_dims=(2, 4)).build(ImageSpec(1, 8, 8))
    assert chosen_rows(TrainedModel(backbone, GaussianPrior(backbone.layout))) == 512
