"""VGG16 is torch-fidelity's, with weights that were checked. A small net stands in for its 138 million weights."""

from __future__ import annotations

import hashlib
import io
import socket

import pytest
import torch
import torchvision
from tiny_models import plan_of, tiny_evaluation
from torch import nn
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from hebm.errors import ConfigError, HebmError
from hebm_plugins.extractors.vgg16 import STANDARD, VGG16, WIDTH, VGG16Extractor
from hebm_plugins.metrics.distances import FrechetDistance
from hebm_plugins.metrics.prdc import PRDC


class SmallVGG(nn.Module):
    """The modules that torch-fidelity asks for: a classifier of seven modules whose fourth returns the features."""

    width = WIDTH

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        hidden = nn.Linear(12, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, self.width), nn.ReLU(), nn.Dropout()
        self.classifier = nn.Sequential(*hidden, nn.Linear(self.width, 2))

    def forward(self, x):
        return self.classifier(self.pool(x).flatten(1))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    return written(tmp_path, monkeypatch, WIDTH)


def written(tmp_path, monkeypatch, width):
    """A file of seeded weights, for this number of features."""
    monkeypatch.setattr(SmallVGG, "width", width)
    monkeypatch.setattr(torchvision.models, "vgg16", SmallVGG)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(SmallVGG().state_dict(), tmp_path / "vgg16.pth")
    return tmp_path / "vgg16.pth"


def recipe_of(path):
    return VGG16(weights=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_torch_fidelitys_and_grey_is_three_equal_channels(weights, channels):
    pixels = torch.randint(256, (34, channels, 9, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs = FeatureExtractorVGG16("vgg16", ["fc2_relu"], str(weights))(pixels.expand(-1, 3, -1, -1).contiguous())[0]
    extractor = VGG16Extractor(weights.read_bytes(), torch.device("cpu"))
    found = extractor(pixels)["features"]
    assert found.shape == (34, WIDTH)
    assert found.std() > 0
    torch.testing.assert_close(found, theirs)
    assert extractor.describe()["standard"] is False


def test_metrics_measure_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(VGG16Extractor, "widths", {"features": 16})
    own = recipe_of(written(tmp_path, monkeypatch, 16))
    evaluation = tiny_evaluation(tmp_path, samples=24, extractors=(own,), metrics=(FrechetDistance(), PRDC()))
    assert "24 images are few for the 4096 features of vgg16" in plan_of(evaluation).check()[0]
    found = [*FrechetDistance().compute(evaluation), *PRDC().compute(evaluation)]
    assert {each.extractor for each in found} == {"vgg16"}
    assert all(each.found for each in found)


def test_missing_weights_are_told_before_training(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    evaluation = tiny_evaluation(tmp_path, extractors=(VGG16(),), metrics=(FrechetDistance(),))
    with pytest.raises(HebmError, match=r'cannot download VGG16 weights \(528 MB\).*type = "vgg16", weights = "PATH"'):
        plan_of(evaluation).check()


def test_a_copy_in_the_place_of_downloads_is_found_and_another_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    STANDARD.file.parent.mkdir()
    torch.save({}, content := io.BytesIO())
    STANDARD.file.write_bytes(content.getvalue())
    with pytest.raises(ConfigError, match=r"VGG16 weights .*vgg16-397923af\.pth: sha256 is .*, expected 397923af"):
        VGG16().check_weights()


def test_the_standard_hash_is_that_of_the_files_name():
    assert f"-{STANDARD.sha256[:8]}.pth" in STANDARD.url
