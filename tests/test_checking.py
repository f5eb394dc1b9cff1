"""`hebm.check`: what a run would need, as a value that prints."""

import pytest
from real_runs import tiny

import hebm
import hebm.interfaces
from hebm import registry
from hebm.densities import GeneratorPosterior
from hebm.errors import ConfigError
from hebm.pipeline import assemble


def test_a_check_returns_the_lines_that_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    found = hebm.check(hebm.Experiment.from_table(tiny()), said.append)
    assert str(found) == "\n".join(said)
    for part in ("prior joint", "  energy mlp", "D = 8", "phase prior: 6 steps in a run", "64 samples drawn"):
        assert part in str(found)
    assert not list(tmp_path.iterdir())


def with_prior(**prior):
    return hebm.Experiment.from_table({**tiny(), "prior": prior})


STAGES = {"type": "multi-stage", "stages": 2, "energy": {"type": "mlp", "width": 4}}


@pytest.mark.parametrize("prior", [{"type": "joint"}, STAGES, {"type": "ncp", "sampling": "langevin"}], ids=str)
def test_a_chain_that_cannot_run_on_its_density_is_an_error_before_training(prior, monkeypatch):
    """Also one of a stage that is not trained yet: every density here has lost its factor."""
    monkeypatch.setattr(hebm.interfaces.TiltedPrior, "factor", lambda self: None)
    found = with_prior(**prior, sampler={"type": "pcn", "steps": 2})
    with pytest.raises(ConfigError, match=r"sampler: PCN proposes from .* TiltedPrior has no known one"):
        assemble(found)


def test_the_posterior_chains_of_scheme_joint_are_checked_too(monkeypatch):
    found = hebm.Experiment.from_table(tiny("joint", train={"posterior_sampler": {"type": "pcn-mala", "steps": 2}}))
    assemble(found)
    monkeypatch.setattr(GeneratorPosterior, "factor", lambda self: None)
    with pytest.raises(ConfigError, match=r"sampler: PCNMALA proposes from .* GeneratorPosterior has no known one"):
        assemble(found)


def test_chains_of_training_are_not_adapted():
    asked = {"type": "mala", "steps": 2, "target_acceptance": 0.6}
    with pytest.raises(ConfigError, match=r"train\.posterior_sampler\.target_acceptance: .*set step_size"):
        assemble(hebm.Experiment.from_table(tiny("joint", train={"posterior_sampler": asked})))


@pytest.mark.parametrize("sampler", ["pcn", "pcn-mala"])
def test_priors_with_a_gaussian_factor_are_checked_and_take_their_steps(sampler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for prior in (STAGES, {"type": "diffusion", "energy_scale": "paper", "levels": 2}):
        hebm.check(with_prior(**prior, sampler={"type": sampler, "steps": 2}))


def test_what_does_not_fit_is_an_error_that_a_run_would_give():
    with pytest.raises(ConfigError, match="no transition 'stage 3'"):
        hebm.check(hebm.Experiment.from_table(tiny(evaluate={"after": "stage 3"})))
    with pytest.raises(ConfigError, match=r"expected a hebm\.Experiment, got dict"):
        hebm.check(tiny())


def test_a_check_says_what_will_be_missing_or_hard_to_trust():
    evaluate = {"metrics": ["fd", "likelihood"], "extractors": ["efficientnet-lite0"]}
    lines = hebm.check(hebm.Experiment.from_table(tiny(evaluate=evaluate))).lines
    notes = [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]
    assert "images are few for the 1280 features of efficientnet-lite0" in notes[0]
    assert notes[1].startswith("likelihood is in nats per image alone: ")


def test_a_component_without_a_source_file_is_checked_like_any_other(tmp_path, monkeypatch):
    """As one typed into an interpreter."""
    monkeypatch.chdir(tmp_path)
    typed = {"__name__": "typed"}
    exec("import hebm\n@hebm.recipe\nclass Typed(hebm.MLP):\n    pass", typed)
    hebm.register("hebm_energies", "typed", typed["Typed"])
    try:
        found = hebm.check(with_prior(type="joint", energy={"type": "typed", "width": 4}, sampler="ula"))
    finally:
        registry.unregister("hebm_energies", "typed")
    assert "  energy typed  registered by hand" in found.lines
