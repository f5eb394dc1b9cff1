"""How a configuration becomes a run."""

import pytest
from real_runs import tiny, train
from two_tilts import TwoTilts

from hebm import locked_runs, pipeline, registry
from hebm.config.components import distributions
from hebm.config.experiment import Experiment
from hebm.config.settings import RunSettings
from hebm.errors import CheckpointError, ConfigError
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import read_run


def test_the_distributions_of_a_run_are_those_of_its_components_at_any_depth():
    assert distributions(Experiment.from_table(tiny())) == {"hebm"}


def test_stages_that_share_a_name_are_refused(monkeypatch):
    registry.register("hebm_priors", "two-tilts", TwoTilts)
    monkeypatch.setattr("two_tilts.TwoTiltsPrior.stages", lambda self: (super(type(self), self).stages()[0],) * 2)
    try:
        with pytest.raises(ConfigError, match="names of phases must be unique"):
            pipeline.assemble(Experiment.from_table({**tiny(), "prior": {"type": "two-tilts"}}))
    finally:
        registry.unregister("hebm_priors", "two-tilts")


@pytest.mark.parametrize("after", ["root", "stage 1"])
def test_results_may_be_of_any_transition_that_the_trained_prior_has(after):
    table = {**tiny("two-phase"), "prior": {"type": "multi-stage", "stages": 2}, "evaluate": {"after": after}}
    assert pipeline.assemble(Experiment.from_table(table)).experiment.evaluate.after == after


def test_results_of_a_transition_that_does_not_exist_are_refused_before_training():
    table = {**tiny("two-phase"), "prior": {"type": "multi-stage", "stages": 2}, "evaluate": {"after": "stage 3"}}
    with pytest.raises(ConfigError, match=r"evaluate\.after: this prior has no transition 'stage 3'; it has 'root'"):
        pipeline.assemble(Experiment.from_table(table))


@pytest.mark.parametrize("scheme", ["two-phase", "variational"])
def test_a_scheme_that_needs_an_inference_model_says_so(scheme):
    table = tiny(scheme, backbone={"inference": "none"})
    with pytest.raises(ConfigError, match=f"scheme '{scheme}' needs a backbone with an inference model"):
        pipeline.assemble(Experiment.from_table(table))


def test_the_accelerator_takes_its_accumulation_from_the_configuration(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "7")
    accelerator = pipeline.make_accelerator(RunSettings(device="cpu", gradient_accumulation=2))
    assert accelerator.gradient_accumulation_steps == 2


def test_only_a_finished_run_can_be_opened_for_evaluation(tmp_path):
    folder, accelerator = tmp_path / "tiny", pipeline.make_accelerator(RunSettings(device="cpu"))
    train(tiny(), folder, stop_after=6)
    with (
        pytest.raises(CheckpointError, match="is unfinished: it is at step 6 of 6 in phase 'backbone'"),
        locked_runs.locked_when_finished(read_run(folder), accelerator),
    ):
        pass
    train(tiny(), folder)
    with locked_runs.locked_when_finished(read_run(folder), accelerator) as whole:
        assert whole.seconds > 0


def test_the_main_process_lets_go_of_the_folder_when_it_is_refused(tmp_path):
    assembly = pipeline.assemble(Experiment.from_table(tiny()))
    accelerator = pipeline.make_accelerator(RunSettings(device="cpu"))
    folder = RunFolder(tmp_path / "tiny")
    with locked_runs.locked_for_training(folder, assembly, accelerator, allow=False) as (run_id, stage):
        assert run_id
        assert stage == "untrained"
        with (
            pytest.raises(CheckpointError, match="in use by another run"),
            locked_runs.locked_for_training(folder, assembly, accelerator, allow=False),
        ):
            pass
    other = pipeline.assemble(Experiment.from_table(tiny(seed=1)))
    with (
        pytest.raises(CheckpointError, match="seed: 0 → 1"),
        locked_runs.locked_for_training(folder, other, accelerator, allow=False),
    ):
        pass
    with locked_runs.locked_for_training(folder, assembly, accelerator, allow=False) as (again, _):
        assert again == run_id
