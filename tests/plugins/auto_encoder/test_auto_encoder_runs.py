"""Runs on a user's VAE: only the prior learns, and other processes open them through a registered backbone."""

import attrs
import pytest
import torch
from own_vaes import GridVAE, OwnGrid, UntrainedGrid, grids

import hebm
from hebm import CheckpointError, ConfigError, option, recipe, registry
from hebm.config.live_values import given_live
from hebm.interfaces import BackboneRecipe
from hebm_plugins.auto_encoder.backbone import AutoEncoderBackbone

DATA = hebm.Tensors(grids(60).pixels, range=(-1.0, 1.0), batch_size=20)
PRIOR = hebm.Joint(energy=hebm.MLP(width=8), sampler=hebm.ULA(steps=2))
STEPS = hebm.PhaseOptimization(steps=4)


def experiment(vae, **keys):
    backbone = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2), standardise="channel", **keys)
    return hebm.Experiment(data=DATA, backbone=backbone, prior=PRIOR, train=hebm.TwoPhase(prior=STEPS))


@pytest.fixture(scope="module")
def vae():
    return GridVAE()


@pytest.fixture(scope="module")
def run(vae, tmp_path_factory):
    return hebm.train(experiment(vae), tmp_path_factory.mktemp("runs") / "own", progress=False)


@pytest.fixture
def registered():
    """Another process, where a plugin registers the component."""
    registry.register("hebm_backbones", "grid-vae", OwnGrid)
    yield
    registry.unregister("hebm_backbones", "grid-vae")


def test_only_the_prior_is_trained_and_the_modules_stay_as_they_were(vae, run):
    assert {row["phase"] for row in run.history} == {"prior"}
    assert {name: weight.item() for name, weight in vae.state_dict().items()} == {"factor": 3, "log_variance": -4}
    assert all(parameter.requires_grad and parameter.grad is None for parameter in vae.parameters())
    assert vae.training
    assert run.model.backbone.vae is vae


def test_the_gaussian_prior_on_it_is_a_run_without_training(vae, tmp_path):
    run = hebm.train(attrs.evolve(experiment(vae), prior=hebm.Gaussian()), tmp_path / "gaussian", progress=False)
    assert run.reached.finished
    assert run.history == []
    assert run.model.backbone.scale.item() != 1
    assert run.model.sample(3).shape == (3, 1, 8, 8)


def test_the_fitted_numbers_are_part_of_the_weights(run):
    z = run.model.infer(grids(60).pixels).latents
    assert run.model.backbone.scale.item() == pytest.approx(float(z.z[0].std()), rel=0.1)
    assert float(z.u.std()) == pytest.approx(1.0, abs=0.1)


def test_another_process_says_which_component_makes_the_run_loadable(run):
    found = hebm.open_run(run.path, data=DATA)
    with pytest.raises(ConfigError, match=r"came from Python.*'grid-vae' would make.*--plugin grid-vae --kind vae"):
        _ = found.model
    with pytest.raises(ConfigError, match="'grid-vae' would make the run loadable"):
        found.evaluate(progress=False)


@pytest.mark.usefixtures("registered")
def test_a_registered_backbone_makes_it_loadable(run):
    model = hebm.open_run(run.path).model
    assert isinstance(model.backbone, AutoEncoderBackbone)
    assert model.backbone.standardise == "channel"
    assert torch.equal(model.sample(5), run.model.sample(5))


def test_it_opens_with_the_modules_passed_again(vae, run):
    backbone = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2))
    assert torch.equal(hebm.open_run(run.path, backbone=backbone).model.sample(5), run.model.sample(5))
    other = GridVAE()
    with torch.no_grad():
        other.factor.add_(1)
    with pytest.raises(ConfigError, match="these are not the weights of this run"):
        hebm.open_run(run.path, backbone=hebm.AutoEncoder(other.encode, other.decode, latent_shape=(1, 2, 2)))
    with pytest.raises(ConfigError, match=r"backbone: this run was made with AutoEncoder, not HVAE"):
        hebm.open_run(run.path, backbone=hebm.HVAE())


def test_a_saved_model_loads_with_the_modules_passed_again(vae, run, tmp_path):
    run.model.save(tmp_path / "own.hebm")
    backbone = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2))
    assert torch.equal(hebm.load(tmp_path / "own.hebm", backbone=backbone).sample(3), run.model.sample(3))
    with pytest.raises(ConfigError, match="'grid-vae' would make"):
        hebm.load(tmp_path / "own.hebm")


def test_the_same_call_resumes_and_other_weights_are_refused(vae, run):
    assert hebm.train(experiment(vae), run.path, progress=False).reached.finished
    other = GridVAE()
    with torch.no_grad():
        other.factor.add_(1)
    with pytest.raises(CheckpointError, match=r"backbone\.fingerprint"):
        hebm.train(experiment(other), run.path, progress=False)


@pytest.mark.usefixtures("registered")
def test_the_configuration_of_a_run_trains_again_only_with_the_trained_weights(run, tmp_path):
    again = hebm.Experiment.load(run.path / "config.toml", {"data": DATA})
    assert hebm.train(again, tmp_path / "again", progress=False).reached.finished
    registry.register("hebm_backbones", "grid-vae", UntrainedGrid)
    with pytest.raises(ConfigError, match="the VAE's weights are not those of this run"):
        hebm.train(again, tmp_path / "untrained", progress=False)


def test_a_component_that_names_the_file_of_its_weights_trains_again(vae, run, tmp_path, monkeypatch):
    torch.save(vae.state_dict(), tmp_path / "vae.pt")
    made = UntrainedGrid(weights=str(tmp_path / "vae.pt"))
    monkeypatch.setattr(registry, "find", lambda group, name: lambda: made)
    monkeypatch.setattr(registry, "names", lambda group: ["grid-vae"])
    backbone = attrs.evolve(run.experiment.backbone, encode=None, decode=None).build(hebm.ImageSpec(1, 8, 8))
    assert backbone.vae.factor.item() == 5
    backbone.fit_statistics(grids(60))
    assert backbone.vae.factor.item() == 3


class Fixed(torch.nn.Module):
    """A VAE without parameters."""

    def encode(self, x):
        mean = 3 * torch.nn.functional.adaptive_avg_pool2d(x, 2)
        return mean, torch.full_like(mean, -4.0)

    def decode(self, z):
        return torch.nn.functional.interpolate(z / 3, (8, 8))


def test_a_vae_without_parameters_is_trained_on_and_sampled(tmp_path):
    run = hebm.train(experiment(Fixed()), tmp_path / "fixed", progress=False)
    assert run.reached.finished
    assert run.model.sample(2).isfinite().all()


def test_a_component_that_builds_something_else_is_named(run):
    backbone = attrs.evolve(run.experiment.backbone, component="hvae", encode=None, decode=None)
    with pytest.raises(ConfigError, match=r"'hvae' builds a HVAEBackbone; it must return hebm.AutoEncoder"):
        backbone.build(hebm.ImageSpec(1, 32, 32))


@recipe
class NeedsAKey(BackboneRecipe):
    """A backbone with a key without a default."""

    width: int = option(doc="a number")

    def build(self, images):
        raise NotImplementedError


def test_a_component_with_a_required_key_is_named(run):
    registry.register("hebm_backbones", "grid-vae", NeedsAKey)
    try:
        with pytest.raises(ConfigError, match=r"'grid-vae' cannot be built without keys .*give each key .* a default"):
            _ = hebm.open_run(run.path).model
    finally:
        registry.unregister("hebm_backbones", "grid-vae")


def test_a_backbone_is_refused_for_a_run_whose_backbone_has_no_python_values(vae):
    tables = {"data": {"type": "digits"}, "backbone": {"type": "hvae"}, "prior": {"type": "joint"}}
    backbone = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2))
    with pytest.raises(ConfigError, match="backbone: the HVAE of this run has no Python values; leave backbone out"):
        given_live(hebm.Experiment.from_table(tables), {"backbone": backbone})


@pytest.mark.parametrize("scheme", [hebm.JointMCMC(), hebm.Variational()])
def test_schemes_that_train_the_backbone_refuse_it(vae, scheme):
    model = hebm.AutoEncoder(vae.encode, vae.decode, latent_shape=(1, 2, 2)).build(hebm.ImageSpec(1, 8, 8))
    with pytest.raises(
        ConfigError, match=r"trains the backbone, but the weights of this AutoEncoderBackbone are final"
    ):
        scheme.phases(model, PRIOR.build(model))
