"""Backbones whose weights are final."""

import pytest
import torch
from real_runs import tiny, train

import hebm
from hebm import ConfigError
from hebm.testing.subjects import ReferenceBackbone
from hebm.training.state import restored_requires_grad


class FrozenBackbone(ReferenceBackbone):
    final_weights = True


def test_two_phase_trains_only_the_prior():
    for backbone, names in ((ReferenceBackbone(), ["backbone", "prior"]), (FrozenBackbone(), ["prior"])):
        phases = hebm.TwoPhase().phases(backbone, hebm.Joint().build(backbone))
        assert [phase.name for phase in phases] == names


def test_a_stage_that_learns_with_the_backbone_is_refused():
    class Together(hebm.PriorLearner):
        root = None

        def stages(self):
            return (hebm.interfaces.Stage("context", self, self.objective, with_backbone=True),)

    with pytest.raises(ConfigError, match=r"stage 'context' learns with the backbone, but the weights of this Frozen"):
        hebm.TwoPhase().phases(FrozenBackbone(), Together())


def test_requires_grad_is_restored():
    module = torch.nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    with restored_requires_grad(module):
        module.requires_grad_(False)
        module.bias.requires_grad_(True)
    assert (module.weight.requires_grad, module.bias.requires_grad) == (True, False)


def test_the_gaussian_prior_on_the_backbone_of_another_run_is_a_finished_run(tmp_path):
    assert train(tiny(), tmp_path / "tiny")
    table = tiny(prior="gaussian", name="root", train={"backbone_from": str(tmp_path / "tiny")})
    assert train(table, tmp_path / "root")
    run, other = (hebm.open_run(tmp_path / name) for name in ("root", "tiny"))
    assert run.reached.finished
    assert run.history == []
    images = run.model.sample(2)
    assert torch.equal(run.model.reconstruct(images), other.model.reconstruct(images))
