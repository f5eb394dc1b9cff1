import numpy as np
import pytest
import torch
from PIL import Image

from hebm.data.splits import Splits
from hebm.errors import CheckpointError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.settings import EvaluateSettings
from hebm.gaussian import Gaussian
from hebm.interfaces import Batch, Exact, ImageSpec, PriorLearner, Request
from hebm.model import Model
from hebm.noise import Noise
from hebm.report.grids import tiled
from hebm.report.plot_data import FILE, read_plots
from hebm.report.plots import PlotSettings, collect, collect_from
from hebm.trained import TrainedModel
from hebm.training.two_phase import TwoPhase
from hebm_plugins.datasets.digits import Digits
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.energies.mlp_time import MLPTime
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.ncp.recipe import NCP
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.ula import ULA
from hebm_plugins.two_layer.recipe import TwoLayer

SMALL = PlotSettings(draws=160, columns=4, chains=2, frames=5, rows=64)
NOISE = Noise(3, "sample")


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return TwoLayer(z_dims=(4, 8), widths=(16, 8), inference_width=16).build(ImageSpec(1, 8, 8))


@pytest.fixture(scope="module")
def batch():
    images = Digits().load("train")
    index = torch.arange(160)
    x = images.read(index)
    return Batch(x, x, images.labels[index], index)


class Shift(PriorLearner):
    """A prior that tilts its root but has neither chain nor tilt."""

    def __init__(self, root):
        super().__init__()
        self.root = root

    def transitions(self, backbone):
        return (Exact(name="shift", apply=lambda at, noise, request: at.moved(at.u + 1)),)


def trained(backbone, prior, **options):
    return TrainedModel(backbone, prior, TwoPhase(), seed=3, **options)


def joint(backbone, sampler):
    torch.manual_seed(1)
    return Joint(sampler=sampler).build(backbone)


def test_a_chain_is_shown_from_the_roots_draw_to_the_draw_of_the_prior(backbone, batch, tmp_path):
    prior = joint(backbone, ULA(steps=20, step_size=0.1))
    plots = collect(trained(backbone, prior), batch, tmp_path, SMALL)
    assert plots.single_layers == 2  # an energy for each of two layers
    chain = plots.chain
    assert (chain.length, chain.chains, chain.nonfinite) == (20, 64, 0)
    assert chain.frames[0] == 0
    assert chain.frames[-1] == 20
    assert len(chain.frames) == 5
    draws = prior.sample(backbone, 64, NOISE.derive("prior")).u
    starts = prior.root.sample(backbone, 64, NOISE.derive("prior", "base")).u
    with torch.no_grad():
        backbone.eval()
        f = [prior.tilt(backbone.latents(u)).sum(1).mean().item() for u in (starts, draws)]
    assert [chain.f.mean[0], chain.f.mean[-1]] == pytest.approx(f, abs=1e-5)
    strip = np.asarray(Image.open(tmp_path / "chain.png"))
    assert strip.shape == (2 * 34 + 2, 5 * 34 + 2, 3)


def test_the_images_shown_are_the_first_that_are_measured_whether_watched_or_not(backbone, batch, tmp_path):
    prior = joint(backbone, ULA(steps=5, step_size=0.1))
    collect(trained(backbone, prior), batch, tmp_path, SMALL)
    backbone.eval()
    with torch.no_grad():
        draw = prior.sample(backbone, 64, NOISE.derive("prior"))
        images = backbone.likelihood(backbone.latents(draw.u)).mean[:16]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "prior.png")), tiled(images, 4).permute(1, 2, 0).numpy())


def test_tilts_are_there_for_every_kind_and_survive_the_file(backbone, batch, tmp_path):
    prior = joint(backbone, MALA(steps=6, step_size=0.1))
    plots = collect(trained(backbone, prior), batch, tmp_path, SMALL)
    assert {kind: len(found) for kind, found in plots.tilts.items()} == dict.fromkeys(
        ("posterior", "prior", "gaussian"), 160
    )
    assert 0 <= plots.chain.acceptance <= 1
    assert read_plots(tmp_path) == plots


def test_a_prior_that_is_trained_with_labels_shows_a_row_for_each_class(backbone, batch, tmp_path):
    torch.manual_seed(1)
    prior = MultiStage(stages=1, energy=MLP(), sampler=ULA(steps=3), classes=3).build(backbone)
    model = trained(backbone, prior)
    plots = collect(model, batch, tmp_path, SMALL, ("a", "b", "c"))
    assert plots.classes == ("a", "b", "c")
    assert read_plots(tmp_path) == plots
    labels = torch.tensor([0, 1, 2]).repeat_interleave(4)
    images = model.images(model.draw(12, model.noise("prior"), Request(labels)))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "classes.png")), tiled(images, 4).permute(1, 2, 0).numpy())


def test_a_prior_without_labels_shows_no_classes(backbone, batch, tmp_path):
    plots = collect(trained(backbone, joint(backbone, ULA(steps=2))), batch, tmp_path, SMALL, ("a", "b"))
    assert (plots.classes, "classes" in plots.images) == ((), False)


def test_a_diverging_chain_is_counted_and_written(backbone, batch, tmp_path):
    prior = joint(backbone, ULA(steps=300, step_size=5.0))
    plots = collect(trained(backbone, prior), batch, tmp_path, SMALL)
    assert plots.chain.nonfinite == 64
    assert read_plots(tmp_path).chain.f.mean[-1] is None


def test_the_root_has_neither_chain_nor_tilts_and_its_draws_are_the_gaussian_ones(backbone, batch, tmp_path):
    plots = collect(trained(backbone, Gaussian().build(backbone)), batch, tmp_path, SMALL)
    assert plots.chain is None
    assert plots.tilts == {}
    assert (tmp_path / "prior.png").read_bytes() == (tmp_path / "gaussian.png").read_bytes()
    assert not (tmp_path / "chain.png").exists()


def test_a_prior_without_chain_or_tilt_still_shows_its_images(backbone, batch, tmp_path):
    plots = collect(trained(backbone, Shift(Gaussian().build(backbone))), batch, tmp_path, SMALL)
    assert (plots.chain, plots.tilts) == (None, {})
    assert (tmp_path / "prior.png").read_bytes() != (tmp_path / "gaussian.png").read_bytes()


def test_models_are_left_in_the_mode_they_were_in(backbone, batch, tmp_path):
    prior = joint(backbone, ULA(steps=2, step_size=0.1))
    backbone.train()
    prior.eval()
    before = torch.get_rng_state()
    collect(trained(backbone, prior), batch, tmp_path, SMALL)
    assert backbone.training
    assert not prior.training
    assert all(parameter.requires_grad for parameter in prior.parameters())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("content", ["{", "[]", '{"images": {}, "chain": {"length": 1}, "tilts": {}}'])
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(CheckpointError, match=r"plots\.json is damaged"):
        read_plots(tmp_path)


def test_no_file_is_no_figures(tmp_path):
    assert read_plots(tmp_path) is None


def evaluation_of(backbone, prior, **options):
    data = Digits()
    images = {split: data.load(split) for split in ("train", "test")}
    settings = EvaluateSettings(metrics=(), samples=128, batch_size=64)
    model = TrainedModel(backbone, prior, TwoPhase(), seed=5, rows=settings.batch_size, **options)
    return Evaluation(model, Splits(data, images), settings)


def shown(path, images):
    return np.array_equal(np.asarray(Image.open(path)), tiled(images, 4).permute(1, 2, 0).numpy())


def priors(backbone):
    torch.manual_seed(1)
    return {
        "joint": Joint(energy=MLP(zero_init=False), sampler=ULA(steps=3, step_size=0.1)).build(backbone),
        "diffusion": Diffusion(energy=MLPTime(zero_init=False), sampler=ULA(steps=3, step_size=1.0)).build(backbone),
        "ncp": NCP(energy=MLP(coordinate="z-given-above", zero_init=False), proposals=8).build(backbone),
        "gaussian": Gaussian().build(backbone),
        "shift": Shift(Gaussian().build(backbone)),
    }


@pytest.mark.parametrize("name", ["joint", "diffusion", "ncp", "gaussian", "shift"])
def test_evaluation_and_figures_show_the_same_first_images(name, backbone, tmp_path):
    evaluation = evaluation_of(backbone, priors(backbone)[name])
    collect_from(evaluation, tmp_path, SMALL)
    for kind in ("gaussian", "prior"):
        assert shown(tmp_path / f"{kind}.png", evaluation.draws(kind, 16))


@pytest.mark.parametrize("name", ["joint", "diffusion", "ncp", "shift"])
def test_evaluation_figures_and_model_draw_the_same_first_images_of_one_seed(name, backbone, tmp_path):
    prior = priors(backbone)[name]
    evaluation = evaluation_of(backbone, prior)
    collect_from(evaluation, tmp_path, SMALL)
    images = Model(backbone, prior).sample(64, seed=5, batch_size=64)
    assert torch.equal(images, evaluation.decoded("prior", 0, 64))
    assert shown(tmp_path / "prior.png", images[:16])


def test_figures_of_a_draw_that_stops_behind_a_transition_show_the_chains_up_to_it(backbone, batch, tmp_path):
    prior, asked = priors(backbone)["diffusion"], Request(after="level 1")
    plots = collect(trained(backbone, prior, request=asked), batch, tmp_path, SMALL)
    assert plots.chain.length == 2 * 3
    assert shown(tmp_path / "prior.png", Model(backbone, prior).sample(64, seed=3, after="level 1")[:16])


def test_a_draw_that_stops_at_the_root_has_neither_chain_nor_tilts(backbone, batch, tmp_path):
    model = trained(backbone, priors(backbone)["joint"], request=Request(after="root"))
    plots = collect(model, batch, tmp_path, SMALL)
    assert (plots.chain, plots.tilts) == (None, {})


def test_plots_that_say_nothing_of_single_layers_are_read(tmp_path):
    (tmp_path / FILE).write_text('{"images": {}, "chain": null, "tilts": {}}')
    assert read_plots(tmp_path).single_layers == 0
