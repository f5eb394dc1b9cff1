"""Runs on one backbone know that they have the same images, and a run knows its own."""

import pytest
from real_runs import tiny, train

import hebm
from hebm.analysis.running import opened
from hebm.evaluation.drawn_images import DrawnImages
from hebm.evaluation.extractors import ExtractorRecipe
from hebm.evaluation.image_identity import ImageIdentity, ImageSources
from hebm.evaluation.result import evaluate
from hebm.store.provenance import code_digest
from hebm.stored_runs import read_run
from hebm.testing.evaluations import StandIn
from hebm.trained import TrainedModel

MEASURED = {"samples": 96, "batch_size": 64, "metrics": ["gap-closed"], "extractors": ["classifier"]}
MEASURED["temperatures"] = [0.9, 1.1]


@pytest.fixture
def decoded(monkeypatch):
    """The kinds of which batches were decoded since it was last looked at."""
    kinds, original = [], DrawnImages.decoded
    monkeypatch.setattr(DrawnImages, "decoded", lambda self, *which: kinds.append(which[0]) or original(self, *which))

    def seen():
        found = set(kinds)
        kinds.clear()
        return found

    return seen


@pytest.fixture(autouse=True)
def small_extractor(monkeypatch):
    monkeypatch.setattr(ExtractorRecipe, "load", lambda self, context: StandIn("classifier", 10))


def measured(folder, **changes):
    """The measurements of a run as JSON, by key."""
    with opened(read_run(folder), changes) as whole:
        return {each.key: each.to_json() for each in evaluate(whole.evaluation).measurements}


def test_a_second_run_on_a_backbone_measures_the_same_and_draws_its_prior_alone(tmp_path, decoded):
    adapted = {"sampler": {"type": "pcn-mala", "steps": 3, "target_acceptance": 0.6}}
    cache = {"cache_folder": str(tmp_path / "cache")}
    assert train(tiny(evaluate=MEASURED, run=cache), tmp_path / "one")
    table = tiny(evaluate=MEASURED, run=cache, train={"backbone_from": str(tmp_path / "one"), "prior": {"steps": 2}})
    assert train({**table, "prior": {**table["prior"], **adapted}}, tmp_path / "two")
    first = measured(tmp_path / "one")
    assert {"data", "reconstruction", "gaussian", ("gaussian", 0.9), "prior"} <= decoded()
    second = measured(tmp_path / "two")
    assert decoded() == {"prior"}
    same = {key for key in first if key[1] in ("reconstruction", "gaussian", "scaled-gaussian") and key[0] == "fd"}
    assert len(same) == 3
    assert all(first[key] == second[key] for key in same)
    again = measured(tmp_path / "two")
    assert decoded() == set()
    assert again == second
    assert ("draws-acceptance", "prior", "prior", "") in again
    measured(tmp_path / "two", **{"evaluate.chain_steps": 2})
    assert decoded() == {"prior"}


def test_all_that_evaluation_was_asked_for_is_a_part_of_a_priors_identity(tmp_path):
    assert train(tiny(), tmp_path / "tiny")
    run = hebm.open_run(tmp_path / "tiny")
    sources, model = ImageSources.of(run.experiment), TrainedModel(run.model.backbone, run.model.prior)
    found = ImageIdentity(model, run.experiment.data.splits()["train"], "target", sources).of("prior")
    assert set(found["request"]) | {"labels", "context", "fixed", "observe"} == set(model.request.__annotations__)
    assert found["prior"][1]["sampler"]["steps"] == 3


def test_a_class_of_a_notebook_has_another_code_in_each_process_and_one_of_a_file_the_same(monkeypatch):
    class Here:
        pass

    Here.__module__ = "a_notebook"
    assert code_digest([ImageIdentity]) == code_digest([ImageIdentity])
    before = code_digest([Here])
    monkeypatch.setattr("hebm.store.provenance._UNKNOWN_CODE", b"another process")
    assert code_digest([Here]) != before
    assert code_digest([]) == code_digest([ImageSources])
