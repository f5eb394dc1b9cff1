"""A run says what it was made with."""

import json
from importlib import metadata

import pytest
import torch

import hebm
from hebm.interfaces import ImageSpec
from hebm.store.json_shapes import ShapeError
from hebm.store.provenance import describe_images, describe_run, images_of


def test_versions_of_hebm_torch_and_every_plugin_are_recorded_as_json():
    found = json.loads(json.dumps(describe_run(["numpy", "hebm", "attrs", "numpy"], {"images": 3})))
    assert found["hebm"] == hebm.__version__
    assert found["torch"] == torch.__version__
    assert found["plugins"] == {"attrs": metadata.version("attrs"), "numpy": metadata.version("numpy")}
    assert found["data"] == {"images": 3}
    assert {"python", "platform", "hardware"} <= found.keys()


def test_a_distribution_that_is_not_installed_is_an_error():
    with pytest.raises(metadata.PackageNotFoundError):
        describe_run(["no-such-distribution"], None)


@pytest.mark.parametrize(
    "images", [ImageSpec(1, 8, 8), ImageSpec(3, 8, 9, ("a", "b"), True), ImageSpec(3, 8, 8, attributes=("x", "y"))]
)
def test_images_are_read_back_as_they_were_described(images):
    entry = describe_images(images)
    assert json.loads(json.dumps(entry)) == entry  # else a resumed run would differ from itself
    assert images_of({"images": entry}) == images


@pytest.mark.parametrize(
    "entry", [None, {}, [1], {"channels": 1, "classes": 3}, {**describe_images(ImageSpec(1, 8, 8)), "x": 1}]
)
def test_an_entry_of_another_shape_is_named(entry):
    with pytest.raises(ShapeError, match=r"^images\.?\w* (must be|is missing|is an unknown key)"):
        images_of({"images": entry})
