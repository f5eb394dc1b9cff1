"""The extractor `inception`: torch-fidelity's InceptionV3 with the weights that published FIDs use.

The file is hashed before anything in it is interpreted, then read by PyTorch's restricted reader. Only bytes that
passed both go to torch-fidelity.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError, HebmError
from hebm.evaluation.extractors import Extractor, ExtractorContext, ExtractorRecipe, Note

STANDARD_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_LAYERS = {"features": "2048", "logits": "logits_unbiased"}
_ALTERNATIVES = (
    'name a copy of the file, evaluate.extractors = [{ type = "inception", weights = "PATH" }], or use '
    'evaluate.extractors = ["classifier"] or ["efficientnet-lite0"], which need no download'
)


class InceptionExtractor(Extractor):
    """2048 pooled features and 1008 logits without bias, of images resized as TensorFlow 1 did.

    Grey images are shown as three equal channels.

    Arguments:
        weights: the whole content of the weights' file; checked by `verified_weights`.
        device: where to compute.
    """

    name = "inception"
    widths: Mapping[str, int] = {"features": 2048, "logits": 1008}

    def __init__(self, weights: bytes, device: torch.device) -> None:
        self.sha256 = hashlib.sha256(weights).hexdigest()
        self.device = device
        with torch.random.fork_rng(devices=[]):  # it initialises itself before it reads the weights
            net = FeatureExtractorInceptionV3("inception-v3-compat", list(_LAYERS.values()), io.BytesIO(weights))
        self.net = net.to(device)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Mapping[str, Tensor]:
        """Map uint8 `(B, 1 or 3, H, W)` to features and logits."""
        colour = pixels.to(self.device).expand(-1, 3, -1, -1)
        return dict(zip(_LAYERS, self.net(colour), strict=True))

    def notes(self) -> dict[str, Note]:
        """Return whether the weights are the standard ones."""
        return {"standard": self.sha256 == STANDARD_SHA256}


@recipe
class Inception(ExtractorRecipe):
    """InceptionV3 as published FIDs use it: 2048 features, logits. Its weights are downloaded once."""

    channels: ClassVar[tuple[int, ...]] = (1, 3)
    width: ClassVar[int] = 2048

    weights: str | None = option(
        None,
        doc="file of the weights; left out: the standard one, downloaded on first use",
        path=True,
        renamed_from="../extractor_weights",
    )
    sha256: str | None = option(
        None, doc="sha256 of `weights`, if that is not the standard file", renamed_from="../extractor_sha256"
    )

    def check_weights(self) -> None:
        """Download the standard weights if they are needed and missing, and check the file.

        Raises `HebmError` if they are missing and cannot be downloaded, `ConfigError` if the file is another one.
        """
        self._content()

    def build(self, context: ExtractorContext) -> InceptionExtractor:
        """Read the weights; what it raises is what `check_weights` does."""
        return InceptionExtractor(self._content(), context.device)

    def _content(self) -> bytes:
        path = Path(self.weights).expanduser() if self.weights else _standard_file()
        return verified_weights(path, self.sha256 or STANDARD_SHA256)


def verified_weights(path: Path, sha256: str) -> bytes:
    """Return the content of a weights file.

    Raises `HebmError` if it cannot be read, `ConfigError` if its sha256 is not the expected one or if it holds
    anything but tensors.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise HebmError(f"Inception weights {path}: {error.strerror or error}; {_ALTERNATIVES}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256.lower():
        raise ConfigError(
            f"Inception weights {path}: sha256 is {found}, expected {sha256}; the file was not opened. Delete it to "
            "download the standard one, or name another file's hash in the extractor's sha256"
        )
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError(f"Inception weights {path}: not a file of tensors only; {_ALTERNATIVES}") from error
    return content


def _standard_file() -> Path:
    """Return where torch-fidelity keeps the standard weights; download them if they are not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=STANDARD_SHA256, progress=False)
    except (OSError, RuntimeError) as error:
        raise HebmError(
            f"cannot download Inception weights from {URL_INCEPTION_V3}: {error}; {_ALTERNATIVES}"
        ) from error
    return path
