"""The keys of a recipe as options of a command, such as those of a format in `hebm import FORMAT`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from hebm import registry
from hebm.cli.main import main
from hebm.cli.recipe_options import words_of
from hebm.config.recipes import option, recipe
from hebm.errors import CheckpointError
from hebm.porting import CheckpointFormat

SEEN = []


@recipe
class Chosen(CheckpointFormat):
    """Files of a code with many options."""

    size: str = option("small", doc="size of the model", choices=("small", "large"))
    layer_string: str | None = option(None, doc="blocks, as in 32x11,32d2")
    bits: int = option(8, doc="bits of a pixel", low=1)
    scale: float = option(1.0, doc="factor of the weights", above=0)
    flip: bool = option(True, doc="train on mirrored images, too")

    def read(self, files):
        SEEN.append((self, files))
        raise CheckpointError("read")

    def write(self, converted):
        raise CheckpointError("written")


@pytest.fixture(autouse=True)
def chosen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text("1")
    Path("b.json").write_text("2")
    registry.register("hebm_formats", "chosen", Chosen)
    SEEN.clear()
    yield
    registry.unregister("hebm_formats", "chosen")


def called(*arguments):
    return CliRunner().invoke(main, ["import", "chosen", *arguments])


def test_help_shows_each_key_with_its_meaning_choices_bounds_and_default():
    said = " ".join(called("--help").output.split())
    for part in (
        "FILE...",
        "Files of a code with many options.",
        '--size [small|large] Size of the model; default "small".',
        "--layer-string TEXT Blocks, as in 32x11,32d2.",
        "--bits INTEGER Bits of a pixel, ≥ 1; default 8.",
        "--scale NUMBER Factor of the weights, > 0; default 1.0.",
        "--flip / --no-flip Train on mirrored images, too; default true.",
        "--set KEY=VALUE",
    ):
        assert part in said


def test_options_make_the_recipe_and_files_come_in_order():
    words = ("--size", "large", "--layer-string", "32x11,32d2", "--bits", "5", "--scale", "2", "--no-flip")
    result = called("a.json", "b.json", "-o", "run", *words)
    assert (result.exit_code, result.stderr) == (1, "error: read\n")
    ((found, files),) = SEEN
    assert found == Chosen(size="large", layer_string="32x11,32d2", bits=5, scale=2, flip=False)
    assert [(file.name, file.content) for file in files] == [("a.json", "1"), ("b.json", "2")]


def test_the_words_of_a_recipe_make_it_again():
    recipe = Chosen(size="large", layer_string="32x11,32d2", bits=5, scale=0.5, flip=False)
    called("a.json", "-o", "run", *words_of(recipe))
    assert SEEN[0][0] == recipe
    assert words_of(Chosen()) == []


def test_options_that_are_left_out_have_their_defaults_and_numbers_may_be_texts():
    called("a.json", "-o", "run", "--layer-string", "32")
    assert SEEN[0][0] == Chosen(layer_string="32")


def test_values_that_do_not_fit_are_one_error_that_names_their_options():
    result = called("a.json", "-o", "run", "--bits", "0", "--scale", "wide")
    assert result.exit_code == 2
    assert "--bits 0: bits: must be at least 1, got 0" in result.stderr
    assert "--scale wide: scale: expected a number, got 'wide'" in result.stderr
    assert not SEEN


def test_an_unknown_choice_names_those_there_are():
    result = called("a.json", "-o", "run", "--size", "huge")
    assert result.exit_code == 2
    assert "'small', 'large'" in result.stderr


def test_the_group_lists_the_formats():
    said = CliRunner().invoke(main, ["import", "--help"]).output
    assert "nvae" in said.partition("Formats:")[2]
    assert "chosen" in said.partition("Formats:")[2]
