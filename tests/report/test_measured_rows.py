"""Rows of a table as files."""

import json

import attrs
import pytest
from finished_run import finished_run

from hebm.errors import CheckpointError, ConfigError
from hebm.report.comparison import compared
from hebm.report.measured_rows import read_rows, rows_of, write_rows


def runs(tmp_path, name="table-joint", gaps=(0.7, 0.8), **changes):
    """Finished runs of some seeds."""
    found = [
        finished_run(tmp_path, f"{name}-{i}", i, with_samples=False, gap=gap, **changes) for i, gap in enumerate(gaps)
    ]
    return [compared(folder) for folder in found]


def gap(row):
    return next(f for f in row.figures if f.measurement.name == "gap-closed" and f.measurement.kind == "prior")


def test_a_folder_of_rows_is_read_as_it_was_written(tmp_path):
    found = [*runs(tmp_path), *runs(tmp_path, "table-k10", (0.5,), prior="diffusion")]
    folder = tmp_path / "table.measurements"
    write_rows(found, folder)
    assert [path.name for path in sorted(folder.iterdir())] == ["joint.json", "k10.json"]
    assert [row.to_json() for row in read_rows(folder)] == [row.to_json() for row in rows_of(found)]
    (one,) = read_rows(folder / "k10.json")
    assert (one.name, one.seeds, gap(one).sd) == ("table-k10", (0,), None)


def test_a_row_has_every_number_with_its_error_and_what_it_depends_on(tmp_path):
    (row,) = rows_of(runs(tmp_path))
    plain = row.to_json()
    assert (plain["name"], plain["seeds"], plain["prior"]) == ("table-joint", [0, 1], "joint")
    entry = next(m for m in plain["measurements"] if (m["name"], m["kind"]) == ("gap-closed", "prior"))
    assert entry["values"] == [0.7, 0.8]
    assert (entry["mean"], entry["sd"]) == (pytest.approx(0.75), pytest.approx(0.0707107))
    assert next(m for m in plain["measurements"] if m["name"] == "nll")["errors"] == [0.32, 0.32]
    assert (plain["conditions"]["n"], plain["conditions"]["split"]) == (2000, "train")
    assert plain["conditions"]["extractors"]["classifier"]["sha256"] == "ab" * 32
    assert plain["data_fingerprint"] == {"train": "f00d"}
    assert plain["made_with"] == [{"hebm": "0.1", "plugins": {}, "torch": "2.9", "hardware": {"cpus": 2}}]
    assert not any(m["name"] in ("temperature", "seconds") for m in plain["measurements"])  # details, and time
    assert plain["configuration"]["prior"]["type"] == "joint"


def test_the_configuration_has_no_places_of_this_machine(tmp_path):
    (first, _) = runs(tmp_path)
    data = {"type": "mnist", "root": "/home/me", "limit": 9}
    experiment = json.dumps({"data": data, "train": {"backbone_from": {"data": data}}})
    (row,) = rows_of([attrs.evolve(first, experiment=experiment)])
    assert row.configuration["data"] == {"type": "mnist", "limit": 9}
    assert row.configuration["train"] == {"backbone_from": {"data": {"type": "mnist", "limit": 9}}}


def test_a_number_that_a_run_lacks_is_null_and_leaves_no_mean(tmp_path):
    first, second = runs(tmp_path)
    lacking = attrs.evolve(
        second.results, measurements=tuple(m for m in second.results.measurements if m.name != "nll")
    )
    (row,) = rows_of([first, attrs.evolve(second, results=lacking)])
    entry = next(m for m in row.to_json()["measurements"] if m["name"] == "nll")
    assert (entry["values"], entry["mean"], entry["sd"]) == ([81.23, None], None, None)


def test_runs_of_a_variant_that_were_measured_differently_are_no_row(tmp_path):
    first, second = runs(tmp_path)
    other = attrs.evolve(second.results, conditions={**second.results.conditions, "n": 64})
    with pytest.raises(ConfigError, match=r"(?s)table-joint: its runs were measured differently.*n: .* has 64"):
        rows_of([first, attrs.evolve(second, results=other)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 0}, "it has schema 0, expected 1"),
        ({"seeds": [0]}, r"measurements\[0\]\.values must have an entry for each of the 1 seeds"),
        ({"name": None}, "name must be text, not null"),
        ({"measurements": [{}]}, r"measurements\[0\]\.\w+ is missing"),
        ({"seconds": {"prior": ["long"]}}, r"seconds\.prior\[0\] must be a number or null, not 'long'"),
    ],
)
def test_a_file_of_another_shape_is_named_with_its_key(tmp_path, change, message):
    folder = tmp_path / "table.measurements"
    write_rows(runs(tmp_path), folder)
    file = folder / "joint.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=f"joint.json is damaged, .*: {message}; write it again"):
        read_rows(folder)


def test_a_folder_without_rows_is_an_error_that_says_how_to_write_them(tmp_path):
    with pytest.raises(ConfigError, match=r"measurements not found; `hebm compare RUNS -o NAME.measurements`"):
        read_rows(tmp_path)
