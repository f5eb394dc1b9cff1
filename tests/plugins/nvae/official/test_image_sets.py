"""The published data sets as tables, and runs' images under published names."""

import pytest

from hebm.config.experiment import Experiment
from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec
from hebm_plugins.nvae.official.image_sets import name_of, table_of

GREY = ImageSpec(1, 28, 28, binary=True)
SIZES = {"batch_size": 4, "num_process_per_node": 8, "num_proc_node": 3}


def run_on(data):
    table = {"name": "x", "data": data, "backbone": {"type": "nvae"}, "prior": {"type": "gaussian"}}
    return Experiment.from_table(table)


@pytest.mark.parametrize(
    ("name", "data", "images"),
    [
        ("mnist", {"type": "mnist", "binarize": "both"}, GREY),
        ("omniglot", {"type": "omniglot", "binarize": "both"}, GREY),
        ("cifar10", {"type": "cifar10", "flip": True}, ImageSpec(3, 32, 32)),
        ("celeba_64", {"type": "celeba", "size": 64, "flip": True}, ImageSpec(3, 64, 64)),
        ("celeba_256", {"type": "image-folder", "size": 256, "root": "data/celeba_256"}, ImageSpec(3, 256, 256)),
        ("ffhq", {"type": "image-folder", "size": 256, "channels": 3}, ImageSpec(3, 256, 256)),
        ("imagenet_32", {"type": "image-folder", "size": 32}, ImageSpec(3, 32, 32)),
        ("lsun_church_64", {"type": "lsun", "category": "church_outdoor", "size": 64}, ImageSpec(3, 64, 64)),
        ("lsun_bedroom_128", {"type": "lsun", "category": "bedroom", "size": 128}, ImageSpec(3, 128, 128)),
    ],
)
def test_every_published_data_set_has_its_table_and_its_images(name, data, images):
    table, found = table_of({"dataset": name, **SIZES})
    assert found == images
    assert {key: table[key] for key in data} == data
    assert table["batch_size"] == 96  # of all processes together
    again = name_of(run_on(table), 2 if images.channels == 1 else 0, images)
    assert again == (name if table["type"] != "image-folder" else f"imagenet_{images.height}")


@pytest.mark.parametrize("name", ["stacked_mnist", "celeba", "lsun_cat_64", "cifar10_32", "", None])
def test_an_unknown_data_set_names_those_there_are(name):
    with pytest.raises(ConfigError, match="is unknown; allowed are mnist, omniglot"):
        table_of({"dataset": name, **SIZES})


@pytest.mark.parametrize(
    ("pad", "images", "said"),
    [
        (2, ImageSpec(1, 8, 8), "28x28"),
        (0, GREY, "pad = 2"),
        (2, ImageSpec(3, 28, 28), "pad = 0"),
        (0, ImageSpec(3, 32, 64), "square"),
    ],
)
def test_a_shape_that_the_published_code_does_not_know_is_said(pad, images, said):
    with pytest.raises(CheckpointError, match=said):
        name_of(run_on({"type": "svhn"}), pad, images)
