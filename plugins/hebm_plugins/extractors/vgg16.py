"""The extractor `vgg16`: torch-fidelity's VGG16 with torchvision's ImageNet weights.

Its features are more local than Inception's. torch-fidelity uses them by default for precision and recall.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
from typing_extensions import override

from hebm.config.recipes import recipe
from hebm_plugins.extractors.downloaded import DownloadedExtractor, PublishedNetwork, StandardWeights

STANDARD = StandardWeights(
    "vgg16",
    "VGG16 weights",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "528 MB",
)
WIDTH = 4096
_ROWS = 32  # images per batch, at 224 × 224 pixels


class VGG16Extractor(PublishedNetwork):
    """Computes 4096 features, the second fully connected layer after ReLU; resizes images as TensorFlow 1 did."""

    name = "vgg16"
    widths: Mapping[str, int] = {"features": WIDTH}
    standard: ClassVar[StandardWeights] = STANDARD

    @override
    def network(self, weights: io.BytesIO) -> nn.Module:
        net: nn.Module = FeatureExtractorVGG16("vgg16", ["fc2_relu"], weights)
        return net

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 `(B, 1 or 3, H, W)` to features."""
        parts = torch.split(pixels.expand(-1, 3, -1, -1), _ROWS)
        return {"features": torch.cat([self.net(few.to(self.device))[0] for few in parts])}


@recipe
class VGG16(DownloadedExtractor):
    """VGG16 of torch-fidelity: 4096 features. The weights (528 MB) are downloaded once."""

    width: ClassVar[int] = WIDTH
    network: ClassVar[type[PublishedNetwork]] = VGG16Extractor
