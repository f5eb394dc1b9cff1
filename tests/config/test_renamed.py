"""A file with a renamed key is refused with the key's new name."""

from __future__ import annotations

import pytest
from small_recipes import Walk

from hebm.config.document import read
from hebm.config.overrides import parse
from hebm.config.recipes import option, recipe, unfit_field
from hebm.config.structure import structure
from hebm.errors import ConfigError
from hebm.interfaces import Sampler


@recipe
class Drawing:
    particles: int = option(4, doc="how many", renamed_from="../particles")
    chains: int = option(1, doc="how many", renamed_from=("../chain_count", "chain"))


@recipe
class Stepping(Walk):
    steps: int = option(20, doc="how many", renamed_from="../sampler_steps")


@recipe
class Tilt:
    root: str = option(doc="what is tilted", renamed_from="base")
    drawing: Drawing = option(factory=Drawing, doc="how to draw")
    sampler: Sampler = option(factory=Stepping, doc="the chain", renamed_from="sampler_steps")
    width: int = option(8, doc="of the net", renamed_from="drawing/width")


@recipe
class Places:
    cache_folder: str = option("here", doc="where", renamed_from="/evaluate/cache")


@recipe
class Measured:
    samples: int = option(8, doc="how many")


@recipe
class Whole:
    prior: Tilt = option(factory=lambda: Tilt(root="none"), doc="the prior")
    stages: tuple[Tilt, ...] = option((), doc="more of them")
    evaluate: Measured = option(factory=Measured, doc="what is measured")
    run: Places = option(factory=Places, doc="how it runs")


@pytest.fixture
def complaints(write):
    """The problems of a text read as `Whole`, without the folder."""

    def _complaints(text, *overrides):
        path = write(text)
        with pytest.raises(ConfigError) as caught:
            structure(Whole, read(path, parse(overrides)))
        return [line.strip() for line in str(caught.value).replace(f"{path.parent}/", "").split("\n")]

    return _complaints


def test_a_renamed_key_is_refused_with_its_line_and_its_new_name(complaints):
    assert complaints("[prior]\nbase = 'x'") == ["exp.toml:2: prior.base: this key is now prior.root"]


def test_a_key_that_moved_into_a_nested_table_is_found_whether_the_file_has_that_table_or_not(complaints):
    moved = "prior.particles: this key is now prior.drawing.particles"
    assert complaints("[prior]\nroot = 'x'\nparticles = 3") == [f"exp.toml:3: {moved}"]
    assert complaints("[prior]\nroot = 'x'\nparticles = 3\ndrawing.chains = 2") == [f"exp.toml:3: {moved}"]


def test_a_key_that_moved_out_of_a_nested_table_is_found(complaints):
    assert complaints("[prior.drawing]\nwidth = 3") == ["exp.toml:2: prior.drawing.width: this key is now prior.width"]


def test_a_key_that_moved_to_another_part_of_the_file_is_found(complaints):
    assert complaints("[evaluate]\ncache = 'x'") == ["exp.toml:2: evaluate.cache: this key is now run.cache_folder"]
    assert complaints("evaluate = { cache = 'x' }\nrun = {}")[0].endswith("this key is now run.cache_folder")


def test_a_key_with_several_former_names_is_found_by_each(complaints):
    found = complaints("[prior]\nchain_count = 1\ndrawing.chain = 2")
    assert sorted(found[1:]) == [
        "exp.toml:2: prior.chain_count: this key is now prior.drawing.chains",
        "exp.toml:3: prior.drawing.chain: this key is now prior.drawing.chains",
    ]


def test_the_default_component_of_a_field_knows_its_former_keys_better_than_the_table_around_it(complaints):
    found = complaints("[prior]\nsampler_steps = 3")
    assert found == ["exp.toml:2: prior.sampler_steps: this key is now prior.sampler.steps"]
    found = complaints("[prior]\nsampler_steps = 3\nsampler = 'walk'")
    assert found == ["exp.toml:2: prior.sampler_steps: this key is now prior.sampler"]


def test_a_required_key_under_its_old_name_is_not_called_missing_too(complaints):
    assert complaints("[[stages]]\nbase = 'x'") == ["exp.toml:2: stages[0].base: this key is now stages[0].root"]
    assert "stages[0].root: missing" in complaints("[[stages]]\nwidth = 1")[0]


def test_renamed_keys_are_reported_with_all_other_problems_at_once(complaints):
    found = complaints("sed = 1\n[prior]\nbase = 'x'\nwidth = 'y'\n[evaluate]\ncache = 'x'")
    assert found[0] == "exp.toml: 4 problems"
    assert sorted(line.split(": ")[1] for line in found[1:]) == ["evaluate.cache", "prior.base", "prior.width", "sed"]


def test_an_override_of_a_renamed_key_is_named_as_typed(complaints):
    found = complaints("", "prior.base=x", "evaluate.cache=y")
    assert found[1:] == [
        "--set prior.base=x: prior.base: this key is now prior.root",
        "--set evaluate.cache=y: evaluate.cache: this key is now run.cache_folder",
    ]


def test_a_former_name_that_is_still_a_field_is_a_mistake_of_the_recipe():
    @recipe
    class Both:
        old: int = option(1, doc="stays")
        new: int = option(1, doc="says that old was its name", renamed_from="old")

    assert "'new'" in unfit_field(Both)
