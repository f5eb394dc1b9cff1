"""A model's samples: a function of seed and number, whatever the batches; weights averaged where there are averages."""

import attrs
import pytest
import torch
from real_runs import newest, tiny, train

from hebm.building import build, seeded
from hebm.config.experiment import Experiment
from hebm.data.recipe import spec
from hebm.errors import CheckpointError, ConfigError, NonFiniteError
from hebm.interfaces import Draw, PriorLearner, Request, TakesLabels
from hebm.model import Model
from hebm.noise import Noise
from hebm.runs import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    assert train(tiny(), folder)
    return folder


@pytest.fixture(scope="module")
def model(run):
    return open_run(run).model


@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_a_sample_is_the_same_in_batches_of_any_size(model, size):
    torch.testing.assert_close(model.sample(100, batch_size=size), model.sample(100), atol=1e-4, rtol=0)


def test_a_sample_is_bit_equal_in_batches_of_whole_blocks(model):
    assert torch.equal(model.sample(256, batch_size=64)[64:128], model.sample(64, start=64))


@pytest.mark.parametrize("decode", ["mean", "sample"])
def test_start_counts_samples(model, decode):
    later = model.sample(5, start=70, decode=decode)
    torch.testing.assert_close(later, model.sample(75, decode=decode)[70:], atol=1e-4, rtol=0)


def test_seed_and_steps_and_decoding_matter(model):
    plain = model.sample(4)
    assert torch.equal(plain, model.sample(4))
    for other in (model.sample(4, seed=1), model.sample(4, steps=1), model.sample(4, decode="sample")):
        assert not torch.equal(plain, other)


def test_temperature_scales_what_the_prior_drew(model):
    noise = Noise(0, "sample").derive("prior")
    with torch.no_grad():
        u = model.prior.sample(model.backbone, 64, noise).u
        expected = model.backbone.likelihood(model.backbone.latents(0.7 * u)).mean
    torch.testing.assert_close(model.sample(64, temperature=0.7), expected)


def test_sampling_leaves_modes_and_the_global_generator_alone(model):
    model.train()
    model.prior.eval()
    state = torch.get_rng_state()
    model.sample(2)
    assert torch.equal(state, torch.get_rng_state())
    assert model.backbone.training
    assert not model.prior.training
    model.eval()


def test_samples_that_are_not_finite_are_an_error(run):
    broken = open_run(run).model
    with torch.no_grad():
        next(broken.prior.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="5 of 5 samples are not finite"):
        broken.sample(5)


def test_a_loaded_model_has_the_averaged_weights_of_the_last_phase(run, model):
    tensors = newest(run).tensors
    for name, weight in model.prior.state_dict().items():
        assert torch.equal(weight, tensors["prior-ema"][f"module.{name}"])
    assert any(not torch.equal(weight, tensors["prior"][name]) for name, weight in model.prior.state_dict().items())
    for name, weight in model.backbone.state_dict().items():
        assert torch.equal(weight, tensors["backbone"][name])


def test_what_is_loaded_is_what_training_ended_with(tmp_path, monkeypatch):
    from hebm import pipeline

    kept = []
    assemble = pipeline.assemble
    monkeypatch.setattr(pipeline, "assemble", lambda *a: kept.append(assemble(*a)) or kept[-1])
    assert train(tiny(), tmp_path / "tiny")
    loaded = open_run(tmp_path / "tiny").model.state_dict()
    assert all(torch.equal(weight, loaded[name]) for name, weight in kept[0].model.state_dict().items())


def test_a_run_without_checkpoint_is_an_error(tmp_path, run):
    for name in ("config.toml", "manifest.json", "SHA256SUMS"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        open_run(tmp_path)
    with pytest.raises(CheckpointError, match=r"nowhere is not a run folder"):
        open_run(tmp_path / "nowhere")


def test_initial_weights_are_a_function_of_the_seed_and_the_table_alone():
    experiment = Experiment.from_table(tiny())
    images = spec(experiment.data.load("train"), experiment.data)
    torch.manual_seed(1)
    one = build(experiment, images).state_dict()
    torch.manual_seed(2)
    other = build(
        attrs.evolve(experiment, prior=Experiment.from_table(tiny(prior="gaussian")).prior), images
    ).state_dict()
    assert all(torch.equal(one[name], weight) for name, weight in other.items())
    reseeded = build(attrs.evolve(experiment, seed=1), images).state_dict()
    assert not all(torch.equal(one[name], weight) for name, weight in reseeded.items())


def test_the_global_generator_is_as_before_after_building():
    state = torch.get_rng_state()
    with seeded(0, "backbone"):
        torch.rand(3)
    assert torch.equal(state, torch.get_rng_state())


class Labelled(PriorLearner):
    """A prior that keeps the labels it is given."""

    labelled = True

    def __init__(self, dim):
        super().__init__()
        self.root, self.dim, self.heard = None, dim, []

    def check(self, images):
        pass

    def sample(self, backbone, n, noise, request=Request()):
        self.heard.append(request.labels)
        return Draw(noise.normal(n, self.dim))


def test_each_sample_has_its_own_label_in_batches_of_any_size(model):
    prior = Labelled(model.backbone.layout.dim)
    for name, labels in (("label", torch.arange(10)), ("attributes", torch.arange(20).view(10, 2) % 3 - 1)):
        prior.heard.clear()
        Model(model.backbone, prior).sample(10, batch_size=4, **{name: labels})
        assert [len(part) for part in prior.heard] == [4, 4, 2]
        assert torch.equal(torch.cat(prior.heard), labels)


def test_labels_are_refused_where_the_prior_takes_none_and_where_they_are_too_few(model):
    assert not isinstance(model.prior, TakesLabels)
    with pytest.raises(ConfigError, match="was not trained with labels; leave the labels out, or train a prior"):
        model.sample(2, label=[1, 2])
    with pytest.raises(ConfigError, match="1 of them for 2 samples"):
        Model(model.backbone, Labelled(8)).sample(2, label=[1])
