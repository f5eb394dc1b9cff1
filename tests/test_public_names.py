"""`import hebm` is light, and gives what the README uses."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import hebm
from hebm import registry
from hebm.config.experiment import Experiment
from hebm.config.recipes import default_of, fields_of, table_of
from hebm.registry import COMMANDS, GROUPS


def test_importing_hebm_imports_neither_torch_nor_a_plugin():
    code = "import sys, hebm; sys.exit(any(m in sys.modules for m in ('torch', 'hebm_plugins')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_in_the_core_mentions_first_party_plugins():
    files = [
        path for path in Path(hebm.__file__).parent.rglob("*") if path.suffix in (".py", ".txt", ".toml", ".jinja")
    ]
    assert [path.name for path in files if "hebm_plugins" in path.read_text()] == []


@pytest.mark.parametrize("name", hebm.__all__)
def test_every_public_name_can_be_had(name):
    assert getattr(hebm, name) is not None


def test_components_are_there_under_their_class_names():
    from hebm_plugins.priors.joint import Joint

    assert hebm.Joint is Joint


def test_an_unknown_name_is_an_attribute_error_that_says_where_to_look():
    with pytest.raises(AttributeError, match=r"did you mean 'Joint'\? \(hebm plugins"):
        hebm.Jiont  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'FrechetDistance'"):  # registered as fd
        hebm.FD  # noqa: B018


def test_every_public_name_and_component_is_listed_for_completion_without_importing_any():
    code = (
        "import sys, hebm; names = dir(hebm); "
        "sys.exit('torch' in sys.modules or not {'train', 'Joint', 'Tensors', 'NVAE'} <= set(names))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    broken = [name for name in dir(hebm) if getattr(hebm, name) is None]
    assert broken == []


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: hebm.ULA(stpes=3), "ULA: unknown key 'stpes'; did you mean 'steps'"),
        (lambda: hebm.Joint(sampler="ula"), r"Joint.sampler: expected a recipe .* got 'ula'; use hebm\.ULA\(\)"),
        (lambda: hebm.Joint(sampler="nuts"), "hebm plugins --group samplers"),
        (lambda: hebm.EvaluateSettings(metrics=(hebm.FID(), "fd")), r"got 'fd'; use hebm\.FrechetDistance\(\)"),
        (lambda: hebm.Joint(sampler=hebm.ULA), r"got the class ULA; make one: ULA\(…\)"),
        (lambda: hebm.TwoPhase(prior={"steps": 3}), r"expected PhaseOptimization\(…\), got a table"),
    ],
)
def test_a_wrong_argument_of_a_recipe_is_told_in_the_words_of_python(use, message):
    with pytest.raises(hebm.ConfigError, match=message):
        use()


def tables_of(recipe):
    """Recipe and key of each table inside a recipe, and inside those tables."""
    for field in fields_of(recipe):
        if (table := table_of(field.type)) is not None:
            yield recipe, field.name
            yield from tables_of(table)


RECIPES = [registry.find(group, name) for group in GROUPS if group != COMMANDS for name in registry.names(group)]
TABLES = list(dict.fromkeys(pair for recipe in (*RECIPES, Experiment) for pair in tables_of(recipe)))


def test_tables_inside_recipes_are_found():
    names = {
        table_of(field.type).__name__ for recipe, key in TABLES for field in fields_of(recipe) if field.name == key
    }
    assert {"Contrast", "Drawing", "NVAEObjective", "PhaseOptimization", "EvaluateSettings"} <= names


@pytest.mark.parametrize(("recipe", "key"), TABLES, ids=[f"{recipe.__name__}.{key}" for recipe, key in TABLES])
def test_every_table_inside_a_recipe_has_a_public_class(recipe, key):
    field = next(field for field in fields_of(recipe) if field.name == key)
    table = table_of(field.type)
    assert getattr(recipe, table.__name__) is table
    default = default_of(field)
    assert default is None or table(**{one.name: getattr(default, one.name) for one in fields_of(table)}) == default


def test_a_table_inside_a_recipe_is_made_by_its_name():
    prior = hebm.MultiStage(contrast=hebm.MultiStage.Contrast(negatives="pool"))
    assert prior.contrast.negatives == "pool"
    with pytest.raises(hebm.ConfigError, match=r"expected Contrast\(…\), got a table; use MultiStage\.Contrast\(…\)"):
        hebm.MultiStage(contrast={"negatives": "pool"})


def test_help_of_a_recipe_explains_its_keys():
    assert "\nArguments:\n    steps: " in hebm.ULA.__doc__
    assert "(default: 'exact')" in hebm.Joint.__doc__


def test_no_public_function_shares_its_name_with_a_module():
    core = Path(hebm.__file__).parent
    paths = [path for path in core.rglob("*.py") if path.relative_to(core).parts[0] != "cli"]  # named by commands
    modules = {path.stem for path in paths} | {path.parent.name for path in paths}
    functions = {name for name in hebm.__all__ if inspect.isfunction(getattr(hebm, name))}
    functions |= {name for name, _ in inspect.getmembers(hebm.Run, inspect.isfunction)}
    functions |= {name for name, _ in inspect.getmembers(hebm.Model, inspect.isfunction) if name in vars(hebm.Model)}
    assert {"train", "load", "check", "compare", "open_run", "evaluate", "analyse", "sample"} <= functions
    assert functions & (modules - {"__init__"}) == set()


def test_models_are_put_together_from_recipes_and_modules():
    backbone = hebm.TwoLayer(z_dims=(8, 24), generator="mlp", widths=(16,)).build(hebm.ImageSpec(1, 8, 8))
    prior = hebm.Joint(energy=hebm.MLP(width=16), sampler=hebm.ULA(steps=2, step_size=0.1)).build(backbone)
    assert hebm.Model(backbone, prior).sample(16, seed=0).shape == (16, 1, 8, 8)


def test_recipes_show_their_keys_and_meanings_in_a_notebook():
    page = hebm.Joint(energy=hebm.MLP(width=16))._repr_html_()
    assert "<td>energy.width</td><td>16</td>" in page
    assert (
        "&lt;"
        in hebm.Experiment(
            data=hebm.ImageFolder(root="<x>"), backbone=hebm.TwoLayer(), prior=hebm.Gaussian()
        )._repr_html_()
    )
