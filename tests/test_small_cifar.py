"""The script that makes the small CIFAR images of RESULTS.md."""

import importlib.util
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hebm.data.images import ArrayImages
from hebm_plugins.datasets.image_folder import ImageFolder

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "small_cifar.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("small_cifar", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def images():
    smooth = torch.linspace(0, 200, 32).expand(20, 3, 32, 32) + torch.arange(20).view(20, 1, 1, 1)
    return ArrayImages(smooth.to(torch.uint8), torch.arange(20) % 3, ("bird", "cat", "dog"))


def test_archives_are_read_back_with_their_classes_and_nearly_their_pixels(script, images, tmp_path):
    for split in ("train", "test"):
        script.write(images, split, tmp_path / f"{split}.tar.gz")
    found = ImageFolder(root=str(tmp_path)).load("test")
    assert (len(found), found.shape, tuple(found.classes)) == (20, (3, 32, 32), images.classes)
    assert torch.bincount(found.labels).tolist() == torch.bincount(images.labels).tolist()
    with tarfile.open(tmp_path / "test.tar.gz") as archive:
        second_dog = np.asarray(Image.open(archive.extractfile("test/dog/0001.jpg"))).astype(int)
    wanted = images.pixels[5].permute(1, 2, 0).numpy().astype(int)
    assert abs(second_dog - wanted).max() < 12


def test_the_same_images_give_the_same_file(script, images, tmp_path):
    for name in "ab":
        script.write(images, "train", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
