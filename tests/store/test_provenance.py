"""A run says what it was made with."""

import json
from importlib import metadata

import pytest
import torch

import hebm
from hebm.store.provenance import describe_run


def test_versions_of_hebm_torch_and_every_plugin_are_recorded_as_json():
    found = json.loads(json.dumps(describe_run(["numpy", "attrs", "numpy"], {"images": 3})))
    assert found["hebm"] == hebm.__version__
    assert found["torch"] == torch.__version__
    assert found["plugins"] == {"attrs": metadata.version("attrs"), "numpy": metadata.version("numpy")}
    assert found["data"] == {"images": 3}
    assert {"python", "platform", "hardware"} <= found.keys()


def test_a_distribution_that_is_not_installed_is_an_error():
    with pytest.raises(metadata.PackageNotFoundError):
        describe_run(["no-such-distribution"], None)
