import re
import warnings

import attrs
import pytest

from hebm.config.experiment import Experiment
from hebm.config.settings import RunSettings
from hebm.errors import ConfigError, ConfigWarning


def complaints(path, overrides=()):
    """The lines of the error that loading raises, without the folder."""
    with pytest.raises(ConfigError) as caught:
        Experiment.load(path, overrides)
    return [line.strip() for line in str(caught.value).replace(f"{path.parent}/", "").split("\n")]


def test_a_file_becomes_recipes_with_defaults_for_what_it_leaves_out(write, valid, toys):
    experiment = Experiment.load(write(valid))
    assert experiment.name == "exp"
    assert experiment.seed == 3
    assert experiment.data == toys["pictures"](root="somewhere")
    assert experiment.backbone.z_dims == (16, 32)
    assert experiment.prior.energy == toys["net"](width=(8, 8), norm="spectral", rate=0.1)
    assert experiment.evaluate.metrics == (toys["count"](), toys["count"](of=2))
    assert experiment.run == RunSettings(keep=3)


def test_a_table_without_type_changes_the_default_and_keeps_its_other_keys(write, valid, toys):
    assert Experiment.load(write(valid)).prior.sampler == toys["walk"](steps=30, step_size=0.5)
    same = valid.replace("[prior.sampler]", '[prior.sampler]\ntype = "walk"')
    assert Experiment.load(write(same)).prior.sampler == toys["walk"](steps=30, step_size=0.5)


def test_a_table_of_another_type_starts_from_that_types_own_defaults(write, valid, toys):
    other = valid.replace("[prior.sampler]", '[prior.sampler]\ntype = "jump"')
    assert Experiment.load(write(other)).prior.sampler == toys["jump"](steps=30)


def test_a_settings_table_changes_the_default_of_its_owner(write, valid):
    backbone = Experiment.load(write(valid)).train.backbone
    assert (backbone.steps, backbone.rate) == (99, 1)


def test_the_scheme_left_out_is_two_phase(write, valid):
    text = re.sub(r"\[train\]\n.*\n.*\n", "", valid)
    assert type(Experiment.load(write(text)).train).__name__ == "TwoPhase"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seed = 3", "sed = 3", "exp.toml:2: sed: unknown key; did you mean 'seed'?"),
        ("seed = 3", 'seed = "3"', "exp.toml:2: seed: expected an integer, got '3'"),
        ("seed = 3", "seed = 1.0", "exp.toml:2: seed: expected an integer, got 1.0"),
        ("seed = 3", "seed = true", "exp.toml:2: seed: expected an integer, got true"),
        ("seed = 3", "seed = -1", "exp.toml:2: seed: must be at least 0, got -1"),
        ("seed = 3", "seed = 1979-05-27", "exp.toml:2: seed: expected an integer"),
        ("seed = 3", 'name = "../up"', "exp.toml:2: name: '../up' is not allowed"),
        ('"pictures"', '"picture"', "exp.toml:5: data.type: hebm_datasets has no 'picture'; did you mean 'pictures'?"),
        ('type = "pictures"', "type = 3", "exp.toml:5: data.type: expected a string, got 3"),
        ('type = "pictures"\n', "", "exp.toml:4: data.type: missing; expected one of"),
        ('root = "somewhere"', "", "exp.toml:4: data.root: missing; expected a string: the folder"),
        ('root = "somewhere"', "root = 5", "exp.toml:6: data.root: expected a string, got 5"),
        ("    32,", "    0,", "exp.toml:10: backbone.z_dims: must be at least 1, got 0"),
        ("    32,", "    true,", "exp.toml:10: backbone.z_dims[1]: expected an integer, got true"),
        ("z_dims = [", "heads = 3\nz_dims = [", "exp.toml:8: backbone: heads = 3 for 2 layers"),
        ("rate = 0.1", "rate = nan", "exp.toml:17: prior.energy.rate: expected a number, got nan"),
        ("rate = 0.1", "rate = inf", "exp.toml:17: prior.energy.rate: expected a number, got inf"),
        ("rate = 0.1", "rate = 2", "exp.toml:17: prior.energy.rate: must be at most 1, got 2"),
        ("rate = 0.1", 'flag = "false"', "exp.toml:17: prior.energy.flag: expected true or false, got 'false'"),
        ("rate = 0.1", "pair = [1]", "exp.toml:17: prior.energy.pair: expected a list of 2"),
        ("rate = 0.1", "pair = [1, true]", "exp.toml:17: prior.energy.pair[1]: expected a number, got true"),
        ("[8, 8]", '[8, "8"]', "exp.toml:17: prior.energy.width[1]: expected an integer, got '8'"),
        ("[8, 8]", '"8"', "exp.toml:17: prior.energy.width: expected an integer or a list of integers, got '8'"),
        (
            '"spectral"',
            '"spectal"',
            "exp.toml:17: prior.energy.norm: expected one of 'none', 'spectral', got 'spectal'",
        ),
        ("steps = 30", "step = 30", "exp.toml:20: prior.sampler.step: unknown key; did you mean 'steps'?"),
        ("steps = 30", "steps = 0", "exp.toml:20: prior.sampler.steps: must be at least 1, got 0"),
        ("backbone.rate = 1", "backbone = 1", "exp.toml:27: train.backbone: expected a table, got 1"),
        ("backbone.rate = 1", 'backbone.type = "x"', "exp.toml:27: train.backbone.type: unknown key"),
        ("backbone.rate = 1", "stops = [[1], [2.5]]", "exp.toml:27: train.stops[1][0]: expected an integer, got 2.5"),
        ('["count",', '["counts",', "exp.toml:31: evaluate.metrics[0]: hebm_metrics has no 'counts'; did you mean"),
        ("of = 2", "of = 0", "exp.toml:31: evaluate.metrics[1].of: must be at least 1, got 0"),
        ("keep = 3", "keep = 1", "exp.toml:34: run.keep: must be at least 2, got 1"),
        ("[run]", "[runs]", "exp.toml:33: runs: unknown key; did you mean 'run'?"),
        ("[run]\nkeep = 3", "[run", "exp.toml:33: is not valid TOML"),
    ],
)
def test_an_error_has_its_line_its_key_and_what_is_allowed(write, valid, old, new, expected):
    assert old in valid
    (found,) = complaints(write(valid.replace(old, new, 1)))
    assert found.startswith(expected)


def test_a_missing_table_is_named(write):
    found = complaints(write('[data]\ntype = "dots"\n'))
    assert [line.split(":")[1].strip() for line in found[1:]] == ["backbone", "prior"]


def test_all_errors_of_a_file_are_reported_at_once(write, valid):
    text = valid.replace("seed = 3", "seed = -1").replace("steps = 30", "stps = 30").replace("keep = 3", "keep = 0")
    found = complaints(write(text))
    assert found[0] == "exp.toml: 3 problems"
    assert [line.split(":")[1] for line in found[1:]] == ["2", "20", "34"]


def test_an_int_for_a_float_is_no_error_and_stays_what_it_is(write, valid):
    assert isinstance(Experiment.load(write(valid)).train.backbone.rate, int)


def test_a_key_in_a_list_of_lines_is_found_where_its_statement_begins(write, valid):
    text = valid.replace("seed = 3", '\n\n# [run]\nx = """\n[data]\n"""\nseed = "3"')
    assert "exp.toml:8: seed" in "\n".join(complaints(write(text)))


def test_windows_line_ends_do_not_shift_lines(tmp_path, valid):
    path = tmp_path / "exp.toml"
    path.write_bytes(valid.replace("keep = 3", "keep = 1").replace("\n", "\r\n").encode())
    assert complaints(path)[0].startswith("exp.toml:34: run.keep")


def test_a_missing_file_a_folder_and_bytes_that_are_no_text_are_configuration_errors(tmp_path):
    (tmp_path / "bytes.toml").write_bytes(b"seed = 1\nname = '\xff'\n")
    assert "cannot be read" in complaints(tmp_path / "absent.toml")[0]
    assert "is a folder; give a TOML file" in complaints(tmp_path)[0]
    assert complaints(tmp_path / "bytes.toml") == ["bytes.toml:2: is not UTF-8 text"]


def test_a_file_whose_stem_is_no_folder_name_needs_a_name(tmp_path, valid):
    path = tmp_path / "two words.toml"
    path.write_text(valid)
    assert complaints(path)[0].startswith("two words.toml: name: 'two words' is not allowed")
    assert Experiment.load(path, ["name=words"]).name == "words"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-bom"])
def test_files_of_windows_editors_are_read(encoding, valid, tmp_path):
    text = valid.replace("\n", "\r\n")
    data = b"\xff\xfe" + text.encode("utf-16-le") if encoding == "utf-16-le-bom" else text.encode(encoding)
    (tmp_path / "exp.toml").write_bytes(data)
    (tmp_path / "plain.toml").write_text(valid, encoding="utf-8")
    assert Experiment.load(tmp_path / "exp.toml", ["name=a"]) == Experiment.load(tmp_path / "plain.toml", ["name=a"])


@pytest.mark.parametrize("value", ["2024", "1e5", "true", "2024-01-01", "1_000"])
def test_a_key_that_holds_text_takes_the_command_line_as_it_is(value, write, valid):
    assert Experiment.load(write(valid), [f"data.root={value}"]).data.root == value
    assert f"got {'true' if value == 'true' else ''}" in complaints(write(valid.replace('"somewhere"', value)))[0]


def test_a_folder_that_is_a_run_names_the_file_in_it(valid, tmp_path):
    assert "`hebm init` writes one to start from" in complaints(tmp_path)[0]
    (tmp_path / "config.toml").write_text(valid, encoding="utf-8")
    assert f"the configuration of this run is {tmp_path.name}/config.toml: `hebm run" in complaints(tmp_path)[0]


def test_huge_integers_do_not_break_the_message(write, valid):
    assert "seed: must be at most" in complaints(write(valid.replace("seed = 3", "seed = 0x1" + "0" * 8000)))[0]
    found = complaints(write(valid.replace("rate = 1\n", f"rate = {10**400}\n")))[0]
    assert "train.backbone.rate: must be at most 2,147,483,647 in size, got 1000000" in found


# ---------------------------------------------------------------- --set


def test_an_override_sets_any_key_and_parses_its_value_as_toml(write, valid):
    sets = ["seed=9", "prior.sampler.steps = 40", "backbone.z_dims=[1,2,3]", "run.compile=true", 'name="other"']
    experiment = Experiment.load(write(valid), sets)
    assert (experiment.seed, experiment.prior.sampler.steps, experiment.backbone.z_dims) == (9, 40, (1, 2, 3))
    assert (experiment.run.compile, experiment.name) == (True, "other")


def test_a_bare_word_that_is_no_toml_is_a_string(write, valid):
    assert Experiment.load(write(valid), ["data.root=/some/path with#signs"]).data.root == "/some/path with#signs"
    assert Experiment.load(write(valid), ["name=two-phase.1"]).name == "two-phase.1"


def test_an_override_reaches_into_a_bare_name(write, valid, toys):
    text = valid.replace("[prior.sampler]\nsteps = 30", "").replace(
        'type = "tilted"\nenergy', 'sampler = "jump"\nenergy', 1
    )
    text = text.replace("[prior]", '[prior]\ntype = "tilted"')
    assert Experiment.load(write(text), ["prior.sampler.reach=2"]).prior.sampler == toys["jump"](reach=2)


def warned(path, overrides):
    """The experiment, and the texts of its warnings without the folder."""
    with pytest.warns(ConfigWarning) as said:
        found = Experiment.load(path, overrides)
    return found, [str(warning.message).replace(f"{path.parent}/", "") for warning in said]


def test_an_overridden_type_drops_keys_that_it_has_not_and_names_those_that_it_keeps(write, valid, toys):
    text = valid.replace("[prior.sampler]\nsteps = 30", '[prior.sampler]\ntype = "walk"\nsteps = 30\nstep_size = 0.3')
    found, notes = warned(write(text), ["prior.sampler.type=jump", "prior.sampler.reach=2"])
    assert found.prior.sampler == toys["jump"](steps=30, reach=2)
    assert notes == [
        "--set prior.sampler.type=jump: the new type keeps prior.sampler.steps (exp.toml:21), written for the old one; "
        "set these, too, if they should differ"
    ]


@pytest.mark.parametrize(
    ("old", "override"),
    [
        ("[prior.sampler]\nsteps = 5", "prior.sampler.type=jump"),  # the new type's default
        ('[data]\ntype = "pictures"\nbatch_size = 8', "data.type=dots"),  # both types have the same default
    ],
)
def test_kept_keys_that_mean_the_same_are_not_named(write, valid, old, override):
    table = old.split("\n")[0]
    text = valid.replace(f'{table}\ntype = "pictures"' if "data" in table else f"{table}\nsteps = 30", old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Experiment.load(write(text), [override])


def test_an_override_replaces_a_type_that_cannot_be_loaded(write, valid, toys):
    text = valid.replace("[prior.sampler]\nsteps = 30", '[prior.sampler]\ntype = "gone"\nsteps = 30')
    found, notes = warned(write(text), ["prior.sampler.type=jump"])
    assert found.prior.sampler == toys["jump"](steps=30)
    assert "keeps prior.sampler.steps (exp.toml:21)" in notes[0]


def test_a_replaced_table_keeps_nothing(write, valid, toys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Experiment.load(write(valid), ["prior.sampler.type=jump", "prior.sampler={type='jump'}"])
    assert found.prior.sampler == toys["jump"]()


def test_an_overridden_type_drops_no_key_that_the_command_line_gave(write, valid):
    found = complaints(write(valid), ["data.type=dots", "data.dot=5"])
    assert found[0].startswith("--set data.dot=5: data.dot: unknown key; did you mean 'dots'?")


def test_the_same_type_again_drops_nothing(write, valid):
    found = complaints(write(valid.replace("root =", "rot = 1\nroot =")), ["data.type=pictures"])
    assert "data.rot: unknown key" in found[0]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "expected KEY=VALUE"),
        ("seed=", "expected KEY=VALUE"),
        ("=3", "is not a key"),
        ("a..b=3", "is not a key"),
        (
            "[data]\nroot=3",
            "is not one key; repeat --set for each key, such as --set seed=1 --set prior.sampler.steps=30",
        ),
        ("seed=[1,", "is not a TOML value"),
        ("seed=1\nname='x'", "more than one value; repeat --set for each key"),
        ("seed.x=1", "--set seed.x=1: seed is not a table"),
        ("seed=abc", "--set seed=abc: seed: expected an integer, got 'abc'"),
        ("run.keep=0", "--set run.keep=0: run.keep: must be at least 2"),
        ("prior.smpler.steps=3", "--set prior.smpler.steps=3: prior.smpler: unknown key; did you mean 'sampler'?"),
        ("data.root=/x/\udcff", "expected a string"),
    ],
)
def test_a_wrong_override_is_named_as_typed(write, valid, override, expected):
    found = "\n".join(complaints(write(valid), [override]))
    assert expected in found
    assert "--set" in found


# ---------------------------------------------------------------- the same in Python


def test_an_experiment_composed_in_python_is_checked_by_the_same_rules(toys):
    data, backbone, prior = toys["dots"](), toys["generator"](), toys["tilted"]()
    assert Experiment(name="x", data=data, backbone=backbone, prior=prior).run == RunSettings()
    with pytest.raises(ConfigError, match=r"Experiment\.prior: expected a recipe of the group hebm_priors, got Dots"):
        Experiment(name="x", data=data, backbone=backbone, prior=data)
    with pytest.raises(ConfigError, match="a/b"):
        Experiment(name="a/b", data=data, backbone=backbone, prior=prior)


# ---------------------------------------------------------------- from Python


def test_changes_of_keys_may_be_a_mapping(write, valid):
    changes = {"seed": 3, "prior.sampler.steps": 7}
    assert Experiment.load(write(valid), changes) == Experiment.load(write(valid), ["seed=3", "prior.sampler.steps=7"])


def test_a_change_may_be_a_recipe(write, valid, toys):
    experiment = Experiment.load(write(valid), {"prior.sampler": toys["jump"](reach=2)})
    assert experiment.prior.sampler == toys["jump"](reach=2)
    later = {"prior.sampler": toys["jump"](reach=2), "prior.sampler.reach": 3}
    assert Experiment.load(write(valid), later).prior.sampler == toys["jump"](reach=3)


def test_a_table_among_the_changes_changes_its_own_keys_alone(write, valid):
    nested = {"prior": {"sampler": {"steps": 7}}, "seed": 3}
    assert Experiment.load(write(valid), nested) == Experiment.load(write(valid), {"prior.sampler.steps": 7, "seed": 3})


def test_a_change_to_none_leaves_the_key_out(write, valid):
    assert Experiment.load(write(valid)).seed == 3
    assert Experiment.load(write(valid), {"seed": None}).seed == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prior.sampler.stepz": 3}, r"^changes: prior\.sampler\.stepz: unknown key; did you mean 'steps'"),
        ({3: 3}, "3 is not a key"),
        ({"a b": 3}, "'a b' is not a key"),
        ("seed=3", "is one text; give a mapping"),
        ({"seed": object()}, r"^changes: seed: expected an integer, got <object"),
        ({"data": "pictures", "data.root": {"x": 1}}, "root"),
    ],
)
def test_a_wrong_change_is_named_as_it_was_written(write, valid, changes, message):
    with pytest.raises(ConfigError, match=message):
        Experiment.load(write(valid), changes)


def test_an_experiment_is_put_together_from_recipes_and_saved(write, valid, tmp_path):
    read = Experiment.load(write(valid))
    made = Experiment(data=read.data, backbone=read.backbone, prior=read.prior, train=read.train)
    made.save(tmp_path / "new" / "made.toml")
    assert Experiment.load(tmp_path / "new" / "made.toml") == attrs.evolve(made, name="made")
    assert Experiment.from_toml(made.to_toml(), "text") == made
    assert made.name == "experiment"
