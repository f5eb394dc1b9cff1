"""`hebm check` builds everything, tries it, and writes nothing."""

import json

import pytest
from click.testing import CliRunner
from real_runs import hebm, tiny, write_config

from hebm.cli.main import main

CONFIG = """
[data]
type = "digits"
batch_size = 32
[backbone]
type = "two-layer"
z_dims = [2, 3]
generator = "mlp"
widths = [8]
[prior]
type = "joint"
energy = { type = "mlp", width = 4 }
sampler = { type = "ula", steps = 2 }
"""


def check(tmp_path, text, *options):
    path = tmp_path / "x.toml"
    path.write_text(text)
    result = CliRunner().invoke(main, ["check", str(path), *options])
    assert [file.name for file in tmp_path.iterdir()] == ["x.toml"]
    return result


def test_it_says_what_there_is_tries_steps_of_every_phase_and_estimates_the_time(tmp_path):
    result = check(tmp_path, CONFIG)
    assert result.exit_code == 0, result.output
    for part in (
        "energy mlp",
        "mlp.py:",
        "phase backbone: 3000 steps",
        "phase prior: 2000 steps",
        "step 5: loss",
        "time of a run: about ",
        "ready",
    ):
        assert part in result.output


def test_what_does_not_fit_is_an_error_that_says_what_to_do(tmp_path):
    result = check(tmp_path, CONFIG, "--set", "backbone.inference=none")
    assert result.exit_code == 2
    assert "top-down" in result.output
    assert "Traceback" not in result.output


def test_json_is_one_object_with_the_estimate_and_with_errors_where_there_are_any(tmp_path):
    found = json.loads(check(tmp_path, CONFIG, "--json").stdout)
    assert found["ready"]
    assert found["phases"] == {"backbone": 3000, "prior": 2000}
    parts = found["estimate"]
    assert parts["seconds"] == pytest.approx(sum(parts["phases"].values()) + parts["evaluation"], abs=0.3)
    failed = check(tmp_path, CONFIG, "--json", "--set", "backbone.inference=none")
    assert failed.exit_code == 2
    wrong = json.loads(failed.stdout)
    assert not wrong["ready"]
    assert "top-down" in wrong["errors"][0]


def test_check_says_that_checkpoints_do_not_fit_on_the_disk(tmp_path):
    process = hebm("check", write_config(tmp_path, tiny(run={"keep": 10**9})))
    assert process.status == 1
    assert "training needs room for 1000000001 checkpoints" in process.stderr


def test_json_has_each_note_about_data_once(tmp_path):
    from written_images import encoded, write

    files = {f"{folder}/{i}.png": encoded(9 * i) for folder in ("train", "val", "test") for i in range(6)}
    root = write(tmp_path / "set", files)
    config = write_config(tmp_path, tiny(data={"type": "image-folder", "root": str(root), "batch_size": 4}))
    found = json.loads(hebm("check", config, "--json").stdout)
    assert len([note for note in found["notes"] if "'val', which is not used" in note]) == 1
