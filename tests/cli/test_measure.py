"""`hebm measure`: a table on the terminal, and the same numbers as JSON."""

import json

import numpy as np
from real_runs import hebm


def test_the_table_and_the_file_have_the_same_measurements(tmp_path):
    np.savez(tmp_path / "noise.npz", arr_0=np.random.default_rng(0).integers(0, 256, (128, 8, 8, 1), dtype=np.uint8))
    metrics = 'metrics = [{ type = "two-sample", epochs = 1 }]'
    (tmp_path / "data.toml").write_text(f'[data]\ntype = "digits"\n[evaluate]\nsamples = 128\n{metrics}\n')
    found = tmp_path / "found.json"
    process = hebm("measure", tmp_path / "noise.npz", "--data", tmp_path / "data.toml", "-o", found, "--json")
    assert process.status == 0, process.stderr
    found = json.loads(found.read_text())
    assert [(each["name"], each["kind"]) for each in found["measurements"]] == [
        ("two-sample-auroc", "samples"),
        ("two-sample-nats", "samples"),
    ]
    assert json.loads(process.stdout) == found
