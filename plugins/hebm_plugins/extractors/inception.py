"""The extractor `inception`: torch-fidelity's InceptionV3 with the weights that published FIDs use."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm_plugins.extractors.downloaded import DownloadedExtractor, PublishedNetwork, StandardWeights

STANDARD = StandardWeights(
    "inception",
    "Inception weights",
    URL_INCEPTION_V3,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "91 MB",
)
_LAYERS = {"features": "2048", "logits": "logits_unbiased"}


class InceptionExtractor(PublishedNetwork):
    """Computes 2048 pooled features and 1008 logits without bias; resizes images as TensorFlow 1 did."""

    name = "inception"
    widths: Mapping[str, int] = {"features": 2048, "logits": 1008}
    standard: ClassVar[StandardWeights] = STANDARD

    @override
    def network(self, weights: io.BytesIO) -> nn.Module:
        net: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", list(_LAYERS.values()), weights)
        return net

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 `(B, 1 or 3, H, W)` to features and logits."""
        colour = pixels.to(self.device).expand(-1, 3, -1, -1)
        return dict(zip(_LAYERS, self.net(colour), strict=True))


@recipe
class Inception(DownloadedExtractor):
    """InceptionV3 with the weights of published FIDs: 2048 features, logits. The weights are downloaded once."""

    width: ClassVar[int] = 2048
    network: ClassVar[type[PublishedNetwork]] = InceptionExtractor

    weights: str | None = option(
        None,
        doc="file of weights; by default the standard file, downloaded on first use",
        path=True,
        renamed_from="../extractor_weights",
    )
    sha256: str | None = option(
        None, doc="SHA-256 of `weights`; set it if that is not the standard file", renamed_from="../extractor_sha256"
    )
