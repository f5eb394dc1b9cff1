"""A model's samples: a function of seed and number, whatever the batches; weights averaged where there are averages."""

import attrs
import pytest
import torch
from PIL import Image
from real_runs import newest, tiny, train

from hebm.building import build, seeded
from hebm.config.experiment import Experiment
from hebm.data.dataset_recipe import spec
from hebm.data.images import to_unit_range
from hebm.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from hebm.evaluation.partition import Annealing
from hebm.interfaces import Draw, PriorLearner, Request, TakesLabels
from hebm.model import Model
from hebm.noise import Noise
from hebm.pixel_levels import to_pixels
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


def test_each_layer_may_have_a_temperature_of_its_own(model):
    assert torch.equal(model.sample(4, temperature=[0.7, 0.7]), model.sample(4, temperature=0.7))
    noise = Noise(0, "sample").derive("prior")
    with torch.no_grad():
        top, below = model.backbone.layout.split(model.prior.sample(model.backbone, 64, noise).u)
        u = model.backbone.layout.join([0.5 * top, 0.0 * below])
        expected = model.backbone.likelihood(model.backbone.latents(u)).mean
    torch.testing.assert_close(model.sample(64, temperature=(0.5, 0.0)), expected, atol=1e-5, rtol=0)


def test_samples_may_share_the_upper_layers_of_given_latents(model):
    latents = model.infer(model.sample(1)).latents
    below_only = model.sample(3, given=latents, given_layers=1)
    assert not torch.equal(below_only[0], below_only[1])
    narrow = model.sample(3, given=latents, given_layers=1, temperature=0.0)
    with torch.no_grad():
        layout = model.backbone.layout
        top = layout.fix(latents.u, [0]).apply(torch.zeros(1, layout.dim))
        expected = model.backbone.likelihood(model.backbone.latents(top)).mean
        whole = model.backbone.likelihood(model.backbone.latents(latents.u)).mean
    torch.testing.assert_close(narrow, expected.expand(3, -1, -1, -1), atol=1e-5, rtol=0)
    all_given = model.sample(3, given=latents, given_layers=2, temperature=0.3)
    torch.testing.assert_close(all_given, whole.expand(3, -1, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": [1.0]}, "1 numbers for 2 latent layers"),
        ({"temperature": [1.0, -1.0]}, "at least 0, got -1.0"),
        ({"temperature": float("inf")}, "expected a finite number, got inf"),
        ({"given_layers": 1}, "needs given"),
        ({"rows": 3, "given_layers": 1}, "its u has shape (3, "),
        ({"rows": 2, "given_layers": 3}, "more than the 2 latent layers"),
        ({"rows": 2, "given_layers": 0}, "at least 1, got 0"),
    ],
)
def test_temperatures_and_given_layers_that_do_not_fit_are_errors(model, options, words):
    rows = options.pop("rows", 0)
    given = {"given": model.infer(model.sample(rows)).latents} if rows else {}
    with pytest.raises(ConfigError) as error:
        model.sample(2, **given, **options)
    assert words in str(error.value)


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
    with pytest.raises(NonFiniteError, match=r"5 of 5 samples are not finite.*lower prior\.sampler\.step_size"):
        broken.sample(5)
    with torch.no_grad():
        for parameter in broken.backbone.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match=r"5 of 5 samples .*lower train\.backbone\.learning_rate"):
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
    with pytest.raises(ConfigError, match="was not trained with labels; leave them out, or use one that was"):
        model.sample(2, label=[1, 2])
    with pytest.raises(ConfigError, match="1 labels for 2 samples"):
        Model(model.backbone, Labelled(8)).sample(2, label=[1])


# ---------------------------------------------------------------- given images


@pytest.fixture(scope="module")
def images():
    return Experiment.from_table(tiny()).data.load("test").read(torch.arange(70))


def test_batches_of_samples_are_together_the_samples(model):
    parts = list(model.sample_batches(150, seed=3, start=7, batch_size=64, decode="sample"))
    assert [len(part) for part in parts] == [64, 64, 22]
    assert torch.equal(torch.cat(parts), model.sample(150, seed=3, start=7, batch_size=64, decode="sample"))


def test_a_wrong_request_is_an_error_before_anything_is_drawn(model):
    with pytest.raises(ConfigError, match="no transition 'stage 9'"):
        model.sample_batches(10, after="stage 9")


@pytest.mark.parametrize(
    "arguments",
    [
        *({"n": wrong} for wrong in (0, 2.0, True)),
        *({name: 0} for name in ("start_proposals", "batch_size")),
        *({name: -1} for name in ("seed", "start", "steps", "temperature")),
        {"temperature": float("nan")},
        {"decode": "mode"},
    ],
)
def test_a_wrong_number_names_the_argument(model, arguments):
    (name,) = arguments
    with pytest.raises(ConfigError, match=f"^{name}: "):
        model.sample(**{"n": 2, **arguments})


def test_bytes_and_floats_in_range_are_the_same_images(model, images):
    assert torch.equal(model.score(to_pixels(images)).total, model.score(images).total)
    assert torch.equal(model.reconstruct(to_pixels(images)), model.reconstruct(images))


def test_what_is_made_of_images_does_not_depend_on_batches_and_depends_on_the_seed(model, images):
    for function in (model.reconstruct, lambda *a: model.score(*a).total, lambda *a: model.infer(*a).latents.u):
        whole = function(images)
        assert len(whole) == 70
        assert not torch.equal(whole, function(images, 1))
    small, whole = model.infer(images, batch_size=13), model.infer(images)
    for name in ("log_q", "kl"):
        torch.testing.assert_close(getattr(small, name), getattr(whole, name), atol=1e-4, rtol=1e-4)
    assert [tuple(z.shape) for z in whole.latents.z] == [(70, 3), (70, 5)]
    assert [tuple(sigma.shape) for sigma in whole.latents.sigma] == [(70, 3), (70, 5)]


def test_images_that_look_like_zero_to_one_are_warned_of(model, images):
    with pytest.warns(UserWarning, match=r"if they are in \[0, 1\], pass 2 \* x - 1"):
        model.score((images + 1) / 2)


def test_what_a_model_says_is_short_when_it_is_shown(model, images):
    for value in (model, model.score(images), model.elbo(images), model.infer(images)):
        assert len(repr(value)) < 250


def test_scores_are_given_per_energy_per_layer_and_in_total(model, images):
    scores = model.score(images, draws=2)
    assert scores.energy.shape == scores.layer.shape == (70, 2)
    assert torch.equal(scores.total, scores.energy.sum(1))
    assert torch.equal(scores.above[:, 0], scores.total.float().double()) or torch.allclose(
        scores.above[:, 0], scores.total
    )
    latents = model.infer(images).latents
    with torch.no_grad():
        assert model.prior.tilt(latents).shape == (70, 2)


def test_the_elbo_says_which_prior_it_is_of(model, images):
    bound = model.elbo(images, draws=3)
    torch.testing.assert_close(bound.value, bound.log_p_x - bound.kl.sum(1) - bound.context)
    assert "the backbone's own prior, u ~ N(0, I); the learned tilt is not in it" in str(bound)
    assert "learned" not in Model(model.backbone, model.prior.root).elbo(images).prior


def test_the_elbo_of_the_learned_prior_has_its_tilt_and_one_log_z(run, images):
    model = open_run(run).model
    annealing = Annealing(particles=64, repeats=2)
    bound, root = model.elbo(images, learned=annealing), model.elbo(images)
    torch.testing.assert_close(bound.value, root.value + bound.tilt - bound.log_z.value)
    torch.testing.assert_close(bound.tilt, model.score(images).total.to(bound.tilt), atol=0.5, rtol=1)
    assert model.log_z(annealing) is bound.log_z
    assert "the learned prior, log Z" in str(bound)
    assert "the bound is too high on average" in str(bound)
    assert len(repr(bound)) < 250
    with torch.no_grad():
        model.prior.energy.get_parameter(next(name for name, _ in model.prior.energy.named_parameters())).add_(0.1)
    assert model.log_z(annealing) is not bound.log_z


def test_a_known_log_z_makes_the_elbo_of_the_learned_prior_a_bound(run, images, monkeypatch):
    model = open_run(run).model
    monkeypatch.setattr(type(model.prior), "log_z", 0.25, raising=False)
    bound = model.elbo(images, learned=Annealing())
    assert (bound.log_z.value, bound.log_z.known) == (0.25, True)
    assert bound.prior == "the learned prior, log Z = 0.25, exactly"


def test_a_root_has_no_elbo_of_a_learned_prior(model, images):
    with pytest.raises(ConfigError, match="is a root"):
        Model(model.backbone, model.prior.root).elbo(images, learned=Annealing())


def test_images_inferred_by_mcmc_have_no_elbo(tmp_path):
    assert train(tiny("joint"), tmp_path / "tiny")
    model = open_run(tmp_path / "tiny").model
    x = torch.zeros(3, 1, 8, 8)
    assert model.infer(x).kl is None
    with pytest.raises(ConfigError, match="elbo: this model infers latents by MCMC"):
        model.elbo(x)


def test_a_prior_without_a_tilt_has_no_scores(model, images):
    with pytest.raises(ConfigError, match="this prior has no tilt to score by"):
        Model(model.backbone, model.prior.root).score(images)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            torch.zeros(3, 8, 8),
            r"expected shape \(N, 1, 8, 8\), got \(3, 8, 8\); add the missing dimension: images\[:, None\]",
        ),
        (torch.zeros(1, 8, 9), r"add the missing dimension: images\[None\]"),
        (torch.zeros(3, 8, 8, 1), r"put the channels first: images\.permute\(0, 3, 1, 2\)"),
        (torch.zeros(1, 8, 8), r"add the missing dimension: images\[None\]"),
        (torch.zeros(3, 1, 9, 9), r"model\.preprocess"),
        (torch.zeros(0, 1, 8, 8), "there are none"),
        (torch.zeros(3, 1, 8, 8, dtype=torch.int64), "expected uint8, or floats"),
        (torch.full((3, 1, 8, 8), 2.0), r"values run from 2 to 2, allowed is \[-1, 1\]"),
        (torch.full((3, 1, 8, 8), torch.nan), "NaN"),
        ([[1.0]], "expected a tensor or an array"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_what_to_do(model, wrong, message):
    for function in (model.score, model.infer, model.reconstruct, model.elbo):
        with pytest.raises(DataError, match=message):
            function(wrong)


def test_pil_images_and_files_are_converted_as_the_data_sets_own(model, images, tmp_path):
    pictures = [Image.fromarray(pixels[0].numpy()) for pixels in to_pixels(images[:3])]
    x = model.preprocess(pictures)
    assert torch.equal(x, to_unit_range(to_pixels(images[:3])))
    pictures[1].resize((40, 32)).save(tmp_path / "large.png")
    assert model.preprocess(tmp_path / "large.png").shape == (1, 1, 8, 8)
    assert model.preprocess(pictures[0].convert("RGB")).shape == (1, 1, 8, 8)
    with pytest.raises(DataError, match=r"PIL images; convert them first: model\.preprocess"):
        model.score(pictures)
    (tmp_path / "junk.png").write_text("junk")
    with pytest.raises(DataError, match=r"junk\.png: cannot be read as an image"):
        model.preprocess(tmp_path / "junk.png")
    with pytest.raises(DataError, match=r"none\.png"):
        model.preprocess([tmp_path / "none.png"])
    with pytest.raises(DataError, match="expected a PIL image or the path of a file, got Tensor"):
        model.preprocess(images)
    with pytest.raises(DataError, match=r"put the channels first: images\.permute"):
        model.show(images[:3].expand(-1, 3, -1, -1).permute(0, 2, 3, 1))


def test_a_model_shows_its_layers_and_draws_grids(model, images):
    page = model._repr_html_()
    assert "D = 8" in page
    assert "JointPrior" in page
    assert model.show(images[:4], columns=2).size == (70, 70)
    assert model.show(to_pixels(images[:4])).size == (138, 36)


def test_a_model_of_modules_draws_and_scores_but_is_not_saved(model, images, tmp_path):
    bare = Model(model.backbone, model.prior)
    assert torch.equal(bare.sample(3), model.sample(3))
    assert bare.score(images).total.shape == (70,)
    for use in (lambda: bare.save(tmp_path / "x.hebm"), lambda: bare.preprocess([])):
        with pytest.raises(ConfigError, match="put together from modules"):
            use()
