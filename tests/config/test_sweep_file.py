"""Sweep files: what they say, and what is wrong with them."""

import pytest

from hebm.config.experiment import Experiment
from hebm.config.shipped import shipped
from hebm.config.sweep_file import Sweep
from hebm.errors import ConfigError

SWEEP = """\
base = "base.toml"
seeds = [0, 1]

[set]
evaluate.samples = 64

[variants.joint]

[variants.diffusion]
seeds = [1]
prior = { type = "diffusion", energy.type = "mlp-time" }
"train.prior.steps" = 5
"""


def load(folder, text=SWEEP, changes=()):
    folder.joinpath("base.toml").touch()
    path = folder / "priors.toml"
    path.write_text(text)
    return Sweep.load(path, changes)


def test_a_sweep_has_a_base_seeds_and_variants_with_the_place_of_each_change(tmp_path):
    sweep = load(tmp_path, changes=["run.threads=1"])
    assert (sweep.name, sweep.base, sweep.seeds) == ("priors", tmp_path / "base.toml", (0, 1))
    assert [(variant.name, variant.seeds) for variant in sweep.variants] == [("joint", (0, 1)), ("diffusion", (1,))]
    file = tmp_path / "priors.toml"
    changes = [(".".join(o.path), o.value, o.source) for o in sweep.variants[1].overrides]
    assert changes == [
        ("prior.type", "diffusion", f"{file}:11"),
        ("prior.energy.type", "mlp-time", f"{file}:11"),
        ("train.prior.steps", 5, f"{file}:12"),
    ]
    assert [override.path for override in (*sweep.shared, *sweep.changes)] == [
        ("evaluate", "samples"),
        ("run", "threads"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("seeds = [0, 1]\n\n", "seads = [0, 1]\n\n", r"priors\.toml:2: seads: unknown key; did you mean 'seeds'\?"),
        ("seeds = [0, 1]\n\n", "\n", "seeds: missing; expected a list of integers"),
        ("seeds = [0, 1]\n\n", "seeds = [0, 0]\n\n", "seeds: expected at least one seed, and each only once"),
        ("seeds = [1]", "seeds = []", r"priors\.toml:10: variants\.diffusion\.seeds: expected at least one seed"),
        ("base.toml", "bass.toml", r"priors\.toml:1: base: .*bass\.toml not found; the path is relative to this file"),
        ("[variants.diffusion]", "[variants.joint]", r"priors\.toml:9: is not valid TOML"),
        ("seeds = [1]", "seed = 1", r"priors\.toml:10: variants\.diffusion\.seed: .*list, `seeds`"),
        ("seeds = [1]", 'name = "x"', r"variants\.diffusion\.name: .*the sweep names its runs"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path, old, new, complaint):
    assert old in SWEEP
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, SWEEP.replace(old, new))


def test_the_base_may_be_a_configuration_that_comes_with_hebm(tmp_path):
    sweep = load(tmp_path, SWEEP.replace("base.toml", "quickstart"))
    assert sweep.base == shipped()["quickstart"]
    with pytest.raises(ConfigError, match=r"no configuration of this name comes with hebm; did you mean 'quickstart'"):
        load(tmp_path, SWEEP.replace("base.toml", "quickstar"))


def test_every_problem_is_said_at_once(tmp_path):
    with pytest.raises(
        ConfigError, match=r"(?s)3 problems.*bas: unknown key; did you mean 'base'.*base: missing.*seeds"
    ):
        load(tmp_path, SWEEP.replace("base =", "bas =").replace("[0, 1]", '"all"'))


def test_a_change_on_the_command_line_may_not_name_the_runs_either(tmp_path):
    with pytest.raises(ConfigError, match="--set seed=3: seed: the sweep has a list"):
        load(tmp_path, changes=["seed=3"])


def test_a_sweep_and_a_run_are_told_apart_both_ways(tmp_path):
    load(tmp_path)
    with pytest.raises(ConfigError, match=r"priors\.toml: is a sweep file, for several runs; start .*hebm sweep"):
        Experiment.load(tmp_path / "priors.toml")
    with pytest.raises(ConfigError, match=r"is not a sweep file, which needs the keys `base`.*hebm run"):
        load(tmp_path, '[prior]\ntype = "joint"\n')
