"""The speed scripts run, check what they compare, and write their figures. Times are not judged here."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hebm.config.sweep_file import Sweep
from hebm.config.writing import to_table
from hebm.sweeps.planning import plan

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed"


def figures(script, folder, *options, steps=("--steps", "2")):
    """The figures that a script wrote."""
    out = folder / "plots.json"
    command = [sys.executable, SPEED / script, "--json", out, "--repeats", "2", *steps, *options]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(out.read_text())
    return result, done.stdout


def test_kernel_prints_and_writes_every_ratio_of_every_model(tmp_path):
    result, printed = figures("kernel.py", tmp_path, "--models", "mlp", "default", "--no-compile")
    assert len(result["ratios"]) == 14
    assert all(row["value"] > 0 and row["name"] in printed for row in result["ratios"])
    assert result["torch"] in printed


@pytest.mark.slow
def test_training_step_prints_and_writes_growth_and_memory(tmp_path):
    options = ("--models", "default", "--chains", "4", "--memory-chains", "8")
    result, printed = figures("training_step.py", tmp_path, *options)
    assert [row["model"] for row in result["ratios"]] == ["default"]
    assert {axis: len(points) for axis, points in result["growth_ms"].items()} == {"chains": 4, "steps": 4, "layers": 4}
    assert set(result["peak_mib"]) == {"2", "16"}
    assert "layers" in printed


def test_backbone_step_checks_and_times_every_form_of_the_step(tmp_path):
    result, printed = figures("backbone_step.py", tmp_path, "--cases", "nvae-tiny", "two-layer", steps=())
    assert len(result["ratios"]) == 4
    assert all(row["value"] > 0 and row["name"] in printed for row in result["ratios"])
    assert max(result["errors"].values()) <= 1e-5


@pytest.mark.slow
def test_nvae_chain_checks_and_times_every_form_of_the_chain(tmp_path):
    result, printed = figures("nvae_chain.py", tmp_path, "--cases", "small", "--batch", "1", "--no-memory")
    assert len(result["ratios"]) == 4
    assert all(row["value"] > 0 and row["name"] in printed for row in result["ratios"])
    assert result["errors"]["small"] <= 1e-4


@pytest.mark.slow
def test_conditional_step_checks_and_times_every_form_of_the_chain(tmp_path):
    options = ("--cases", "small", "flat", "--batch", "3")
    result, printed = figures("conditional_step.py", tmp_path, *options)
    assert len(result["ratios"]) == 10
    assert all(row["value"] > 0 and row["name"] in printed for row in result["ratios"])
    assert max(result["errors"].values()) <= 1e-4


@pytest.mark.slow
def test_dvp_step_divides_a_training_step_and_counts_its_work(tmp_path):
    result, printed = figures("dvp_step.py", tmp_path, "--cases", "mnist-small", "--batch", "2")
    assert len(result["ratios"]) == 7
    assert all(row["value"] > 0 and row["name"] in printed for row in result["ratios"])
    case = result["cases"]["mnist-small"]
    counts = case["multiply_adds_millions"]
    assert counts["forward"] < counts["forward and backward"] < 4 * counts["forward"]
    assert case["seconds_per_image"] > 0


@pytest.mark.slow
def test_nvae_chain_measures_memory_that_does_not_grow_with_the_steps(tmp_path):
    options = ("--cases", "small", "--batch", "1", "--memory-side", "128")
    result, printed = figures("nvae_chain.py", tmp_path, *options)
    short, long = (result["peak_mib"][steps]["peak"] for steps in ("2", "16"))
    assert long < 1.2 * short
    assert "128 x 128" in printed


@pytest.mark.slow
def test_kernel_checks_and_times_the_compiled_step(tmp_path):
    result, _ = figures("kernel.py", tmp_path, "--models", "default")
    assert result["compiled_error"]["default"] <= 1e-5
    assert len(result["ratios"]) == 9


@pytest.mark.slow
def test_kernel_times_blackjax_or_says_why_not(tmp_path):
    result, printed = figures("kernel.py", tmp_path, "--models", "mlp")
    named = [row["name"] for row in result["ratios"] if "blackjax" in row["name"]]
    if importlib.util.find_spec("blackjax") is None:
        assert "blackjax is not installed" in printed
        assert not named
    else:
        assert named == ["compiled run of ula / blackjax", "compiled run of mala / blackjax"]


@pytest.mark.slow
def test_sampling_cost_compares_stages_and_levels(tmp_path):
    result, printed = figures("sampling_cost.py", tmp_path, "--cases", "two-layer", "--width", "8")
    assert [row["name"] for row in result["ratios"]] == [
        *(f"{m} stages / 1 stage" for m in (2, 3, 4)),
        "diffusion, T = 3 / 1 stage",
        "3 stages / diffusion, T = 3",
    ]
    assert "two-layer" in printed


@pytest.mark.slow
def test_stored_draws_times_every_kind_of_step_and_says_when_they_have_paid(tmp_path):
    options = ("--models", "two-layer", "--energies", "mlp", "--images", "2000")
    result, printed = figures("stored_draws.py", tmp_path, *options)
    assert len(result["ratios"]) == 2
    assert all(row["value"] > 0 and row["name"] in printed for row in result["ratios"])
    (paid,) = result["paid"]
    assert paid["steps"] is None or paid["steps"] >= 2000 / 2
    assert "has paid for itself after" in printed


@pytest.mark.slow
def test_checkpoint_times_saves_and_measures_their_memory(tmp_path):
    options = ("--groups", "1", "--channels", "16", "--folder", tmp_path)
    result, printed = figures("checkpoint.py", tmp_path, *options, steps=())
    assert all(0 < row["value"] and row["name"] in printed for row in result["ratios"])
    assert 0 < result["median"]["blocked_cpu"] <= result["median"]["synced"]
    assert [path.name for path in tmp_path.iterdir()] == ["plots.json"]


SWEEP = """\
base = "base.toml"
seeds = [0, 1]

[variants.joint]
prior = {type = "joint", energy.width = 8, sampler = {type = "ula", steps = 2}}

[variants.diffusion]
prior.type = "diffusion"
"""
BASE = """\
data.type = "digits"
backbone = {type = "two-layer", z_dims = [4, 4], widths = [8], inference_width = 8}
prior.type = "gaussian"
"""


def row_of(variant, experiment, closed):
    """A row of one seed with the sweep's settings."""
    table = to_table(experiment)
    gaps = [
        {"name": "gap-closed", "title": "gap closed", "kind": kind, "mean": value, "sd": None, "values": [value]}
        | {"errors": [0.01], "conditions": {"extractor": "classifier"}}
        for kind, value in (("prior", closed), ("scaled-gaussian", 0.1))
    ]
    facts = {"data": "digits", "backbone": "two-layer", "prior": variant, "scheme": "two-phase", "seeds": [0]}
    rest = {"conditions": {}, "data_fingerprint": None, "seconds": {"prior": [20.0]}, "made_with": []}
    configuration = {key: table[key] for key in ("data", "backbone", "prior")}
    return {
        "schema": 1,
        "name": f"tiny-{variant}",
        "measurements": gaps,
        "configuration": configuration,
        **facts,
        **rest,
    }


def test_time_to_quality_updates_the_tables_and_names_what_is_missing(tmp_path):
    (tmp_path / "base.toml").write_text(BASE)
    (sweep := tmp_path / "tiny.toml").write_text(SWEEP)
    experiment = plan(Sweep.load(sweep))[1].experiment
    (rows := sweep.with_suffix(".measurements")).mkdir()
    (rows / "joint.json").write_text(json.dumps(row_of("joint", experiment, 0.8)))
    (page := tmp_path / "RESULTS.md").write_text(
        "before\n<!-- time to quality: start -->\nold\n<!-- time to quality: end -->\nafter\n"
    )
    options = (sweep, "--batch", "4", "--update", page, "--plot", tmp_path / "plot.png")
    result, printed = figures("time_to_quality.py", tmp_path, *options, steps=())
    (compared,) = result["sweeps"]
    assert (compared["points"][0]["prior"], compared["points"][0]["training"]) == ("joint", 20.0)
    assert all(point["milliseconds"] > 0 for point in compared["points"])
    assert "| `joint` | 1 | 20 |" in page.read_text()
    assert "joint, seed 1; diffusion, seed 0, 1" in printed
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1], "old" in lines) == ("before", "after", False)
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.slow
def test_sampling_slopes_fits_a_line_to_every_number(tmp_path):
    options = ("--cases", "two-layer", "--axes", "steps", "chains", "stages", "--batch", "4")
    result, printed = figures("sampling_slopes.py", tmp_path, *options, steps=())
    assert [slope["axis"] for slope in result["slopes"]] == ["steps", "chains", "stages"]
    assert all(slope["added"] > 0 and slope["off"] < 1 for slope in result["slopes"])
    assert "stages 1 / 2 / 3 / 4" in printed


@pytest.mark.slow
def test_large_arrays_watches_the_memory_of_loading_and_training(tmp_path):
    options = ("--images", "500", "2000", "--batch", "10", "--folder", tmp_path)
    result, printed = figures("large_arrays.py", tmp_path, *options)
    assert [row["name"] in printed for row in result["ratios"]] == [True]
    assert [list(parts) for parts in result["found"].values()] == [["first", "later", "training"]] * 2
    assert all(taken["seconds"] > 0 for parts in result["found"].values() for taken in parts.values())
    assert [path.name for path in tmp_path.iterdir()] == ["plots.json"]


@pytest.mark.slow
@pytest.mark.parametrize("lazy", [(), ("--lazy",)], ids=["in memory", "lazy"])
def test_image_folder_checks_stored_images_and_times_every_command(tmp_path, lazy):
    options = ("--images", "40", "--contents", "4", "--width", "90", "--size", "16", *lazy)
    result, printed = figures("image_folder.py", tmp_path, *options, steps=())
    assert [row["name"] in printed for row in result["ratios"]] == [True, True]
    assert list(result["images_per_second"]) == ["decoded", "first", "later", "later pass"]


def test_batch_sizes_times_the_default_among_others(tmp_path):
    result, printed = figures("batch_sizes.py", tmp_path, "--models", "two-layer", "--rows", "8", "--images", "8")
    assert [row["name"] for row in result["ratios"]] == [f"{n} / 512 images at a time" for n in (8, 512)]
    assert f"512 images at a time by default, {result['sizes']['two-layer']['bytes']:,} bytes" in printed


def test_backbone_times_prints_and_writes_a_row_for_each_backbone_that_a_sweep_trains(tmp_path):
    sweep = SPEED.parent / "sweeps" / "hvae-mnist.toml"
    result, printed = figures("backbone_times.py", tmp_path, sweep, steps=())
    (row,) = result["backbones"]
    assert row["variant"] == "gaussian"
    assert row["variant"] in printed
    assert row["step_ms"] > 0
    assert row["steps"] == 2500
