"""Phase 1 is the backbone's objective, phase 2 the prior's on a frozen backbone."""

import math

import pytest
import torch
from real_runs import log, newest, tiny, train
from torch import nn

from hebm import pipeline
from hebm.config.experiment import Experiment
from hebm.config.recipes import option, recipe
from hebm.errors import CheckpointError, ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import EnergyFn, Progress, Stage
from hebm.noise import Noise
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import SMALL_IMAGES, image_batch, seeded
from hebm.training.joint import JointMCMC
from hebm.training.two_phase import TwoPhase, other_settings
from hebm.training.variational import Variational
from hebm_plugins.priors.joint import JointPrior
from hebm_plugins.samplers.ula import ULA

PROGRESS = Progress(0, 10)


def test_the_phases_are_backbone_and_prior_and_train_their_own(assembled):
    first, second = assembled("two-phase")[0].phases
    assert (first.name, set(first.groups)) == ("backbone", {"backbone"})
    assert (second.name, set(second.groups)) == ("prior", {"prior"})
    assert [phase.name for phase in assembled("two-phase", "gaussian")[0].phases] == ["backbone"]


def test_the_unit_divides_the_loss(assembled):
    losses = []
    for unit in ("nats", "bits/dim"):
        assembly, batch, noise = assembled("two-phase", train={"unit": unit})
        losses.append(float(assembly.phases[0](batch, noise, PROGRESS).total.detach()))
    assert losses[0] == pytest.approx(losses[1] * math.log(2) * 64, rel=1e-5)


def test_phase_1_is_the_negative_elbo(assembled):
    assembly, batch, noise = assembled("two-phase")
    loss = assembly.phases[0](batch, noise, PROGRESS)
    posterior = assembly.model.backbone.infer(batch, noise.derive("backbone"))
    log_prob = assembly.model.backbone.likelihood(posterior.latents).log_prob(batch.target)
    torch.testing.assert_close(loss.total, posterior.kl.sum(1).mean() - log_prob.mean())


def test_phase_1_logs_the_kl_of_each_layer(assembled):
    assembly, batch, noise = assembled("two-phase")
    terms = assembly.phases[0](batch, noise, PROGRESS).terms
    posterior = assembly.model.backbone.infer(batch, noise.derive("backbone"))
    logged = [terms[f"kl_layer_{i}"] for i in range(posterior.kl.shape[1])]
    assert len(logged) > 1
    torch.testing.assert_close(torch.stack(logged), posterior.kl.mean(0).detach())
    torch.testing.assert_close(torch.stack(logged).sum(), terms["kl"])


def test_phase_2_gives_the_backbone_no_gradient(assembled):
    assembly, batch, noise = assembled("two-phase")
    phase = assembly.phases[1]
    phase.start(noise)
    phase(batch, noise, PROGRESS).total.backward()
    assert all(parameter.grad is None for parameter in assembly.model.backbone.parameters())
    assert any(parameter.grad.abs().sum() > 0 for parameter in assembly.model.prior.parameters())
    assert not assembly.model.backbone.training


def test_phase_2_leaves_the_backbone_bit_equal(tmp_path):
    assert not train(tiny(), tmp_path / "tiny", stop_after=7)
    early = newest(tmp_path / "tiny").tensors["backbone"]
    assert train(tiny(), tmp_path / "tiny")
    late = newest(tmp_path / "tiny").tensors
    assert all(torch.equal(tensor, late["backbone"][name]) for name, tensor in early.items())
    assert set(late) == {"backbone", "prior", "prior-ema", "optimizer-prior"}
    assert {line["phase"] for line in log(tmp_path / "tiny")} == {"backbone", "prior"}


def test_phase_2_starts_from_the_averaged_backbone(tmp_path):
    assert not train(tiny(), tmp_path / "tiny", stop_after=6)
    end = newest(tmp_path / "tiny").tensors
    assert not train(tiny(), tmp_path / "tiny", stop_after=1)
    start = newest(tmp_path / "tiny").tensors
    for name, tensor in start["backbone"].items():
        assert torch.equal(tensor, end["backbone-ema"][f"module.{name}"])
    assert any(not torch.equal(tensor, end["backbone"][name]) for name, tensor in start["backbone"].items())


def test_a_prior_can_be_trained_on_another_runs_backbone(tmp_path):
    first, second = tmp_path / "tiny", tmp_path / "second" / "tiny"
    assert train(tiny(), first)
    experiment = tiny(train={"backbone_from": str(first)})
    assert [phase.name for phase in pipeline.assemble(Experiment.from_table(experiment)).phases] == ["prior"]
    assert train(experiment, second)
    trained, taken = (newest(folder).tensors["backbone"] for folder in (first, second))
    assert all(torch.equal(tensor, taken[name]) for name, tensor in trained.items())


def test_the_backbone_of_an_unfinished_run_is_taken_only_if_asked_for(tmp_path):
    assert not train(tiny(), tmp_path / "tiny", stop_after=9)
    taking = {"backbone_from": str(tmp_path / "tiny")}
    with pytest.raises(CheckpointError, match=r"(?s)at step 3 of 6 in phase 'prior'.*train\.allow_unfinished = true"):
        train(tiny(train=taking), tmp_path / "refused" / "tiny")
    assert train(tiny(train={**taking, "allow_unfinished": True}), tmp_path / "taken" / "tiny")


def test_a_backbone_of_another_shape_is_refused(tmp_path):
    assert train(tiny(), tmp_path / "tiny")
    experiment = tiny(train={"backbone_from": str(tmp_path / "tiny")}, backbone={"z_dims": [3, 6]})
    with pytest.raises(CheckpointError, match="other shape"):
        train(experiment, tmp_path / "second" / "tiny")


@recipe
class Settings:
    """What a stage's module was built from."""

    width: int = option(3, doc="a number")


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (Settings(), Settings(), []),
        (None, None, []),
        (Settings(width=5), Settings(), ["width: 3 there, 5 here"]),
        (Settings(), None, ["recipe: None there, Settings(width=3) here"]),
        ("one", "other", ["recipe: 'other' there, 'one' here"]),
    ],
)
def test_stages_are_compared_by_their_recipes_key_by_key(here, there, expected):
    ours, theirs = (Stage("s", nn.Linear(1, 1), lambda: None, recipe=made) for made in (here, there))
    assert other_settings(ours, theirs) == expected


class ImageEnergy(EnergyFn):
    """f = w Σ x, of the decoded mean."""

    sees = ("image",)

    def __init__(self, shape):
        super().__init__()
        self.net = nn.Linear(math.prod(shape), 1)

    def forward(self, latents, t=None):
        return self.net(latents.image.flatten(1)).unsqueeze(2)


def test_an_energy_that_sees_the_image_is_trained_on_the_reconstructions_of_the_posterior():
    backbone = seeded(ReferenceBackbone)
    prior = JointPrior(Gaussian().build(backbone), seeded(lambda: ImageEnergy(backbone.layout.image)), ULA(steps=2))
    _, phase = TwoPhase().phases(backbone, prior)
    phase.start(Noise(0, "start"))
    batch, noise = image_batch(SMALL_IMAGES, 6), Noise(0, "step")
    with torch.no_grad():
        latents = backbone.infer(batch, noise.derive("posterior")).latents
        expected = prior.energy.net(backbone.likelihood(latents).mean.flatten(1)).mean()
    torch.testing.assert_close(phase(batch, noise, Progress(0, 1)).terms["f_positive"], expected)


@pytest.mark.parametrize("scheme", [JointMCMC(), Variational()], ids=["joint-mcmc", "variational"])
@pytest.mark.parametrize("seen", ["image", "features", "last-feature"])
def test_a_scheme_that_trains_the_generator_refuses_an_energy_of_what_the_generator_decodes(scheme, seen):
    backbone, energy = seeded(ReferenceBackbone), ImageEnergy(SMALL_IMAGES.shape)
    energy.sees = (seen,)
    prior = JointPrior(Gaussian().build(backbone), energy, ULA(steps=2))
    with pytest.raises(ConfigError, match=rf"sees what the generator decodes \('{seen}'\); use train\.type"):
        scheme.phases(backbone, prior)
