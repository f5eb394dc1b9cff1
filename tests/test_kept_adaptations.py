"""Adapted step sizes are kept in a file, and found there only for the model that they were adapted to."""

import json

import pytest
import torch

import hebm.adaptation
from hebm.kept_adaptations import KeptAdaptations
from hebm.noise import Noise
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, seeded
from hebm.trained import TrainedModel
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.joint import Joint
from hebm_plugins.samplers.pcn_mala import PCNMALA


@pytest.fixture
def counted(monkeypatch):
    """How often a chain was adapted."""
    calls, original = [], hebm.adaptation._adapt
    monkeypatch.setattr(hebm.adaptation, "_adapt", lambda *a: calls.append(1) or original(*a))
    return calls


def model_of(folder, weights=1.0, identity="a", **sampler):
    backbone = seeded(ReferenceBackbone)
    recipe = Joint(energy=MLP(width=8), sampler=PCNMALA(**{"steps": 4, "target_acceptance": 0.7, **sampler}))
    prior = perturbed(seeded(lambda: recipe.build(backbone)), weights)
    kept = None if folder is None else KeptAdaptations(folder / "adaptations.json", {"prior": identity})
    return TrainedModel(backbone, prior, kept=kept)


def test_a_model_that_is_opened_again_has_the_same_step_size_and_does_not_adapt(tmp_path, counted):
    first = model_of(tmp_path)
    draw = first.draw(5, Noise(0, "d"))
    again = model_of(tmp_path)
    assert torch.equal(again.draw(5, Noise(0, "d")).u, draw.u)
    assert again.adaptations == first.adaptations
    assert len(counted) == 1
    alone = model_of(None)
    assert torch.equal(alone.draw(5, Noise(0, "d")).u, draw.u)
    assert alone.adaptations == first.adaptations


@pytest.mark.parametrize("other", [{"weights": 0.9}, {"identity": "b"}, {"steps": 5}, {"target_acceptance": 0.6}])
def test_what_belongs_to_another_model_is_adapted_again_and_replaced(other, tmp_path, counted):
    _ = model_of(tmp_path).path
    changed, alone = model_of(tmp_path, **other), model_of(None, **other)
    assert changed.path[-1].sampler == alone.path[-1].sampler
    assert len(counted) == 3
    assert model_of(tmp_path, **other).path[-1].sampler == alone.path[-1].sampler
    assert len(counted) == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"key": 1}', "KEPT"])
def test_a_damaged_file_is_replaced(content, tmp_path, counted, caplog):
    _ = model_of(tmp_path).path
    file = tmp_path / "adaptations.json"
    good = file.read_text()
    file.write_text(json.dumps({**json.loads(good), "found": {"prior": [1]}}) if content == "KEPT" else content)
    _ = model_of(tmp_path).path
    assert len(counted) == 2
    assert file.read_text() == good
    assert "is damaged" in caplog.text


def test_a_folder_that_cannot_be_written_to_only_costs_time(tmp_path, counted, caplog):
    for _ in range(2):
        assert model_of(tmp_path / "none").path
    assert len(counted) == 2
    assert "cannot be stored" in caplog.text


def test_a_model_without_an_adapted_chain_leaves_no_file(tmp_path):
    model_of(tmp_path, target_acceptance=0.0).draw(3, Noise(0, "d"))
    assert not list(tmp_path.iterdir())
